"""What custom node packs, and we, bring to the page: scripts, examples, translations, subgraphs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web

from comfy_dist.frontend.answers import Refused
from comfy_dist.frontend.context import Context, context
from comfy_dist.frontend.page import page_root, serve
from comfy_dist.workspace import PathRefused, inside

log = logging.getLogger(__name__)
routes = web.RouteTableDef()

#: Where packs keep example workflows; the first is the documented one.
_EXAMPLES = ("example_workflows", "example", "examples", "workflow", "workflows")
#: Our own scripts, and under which name they are served.
_OURS, _OUR_NAME = Path(__file__).parent / "web", "comfy_dist"
#: A pack's locale files beside main.json, and under which key they go.
_LOCALE_PARTS = ("nodeDefs", "commands", "settings")


def _web_folders(here: Context) -> dict[str, Path]:
    """{pack: its web folder}, ours and of those that exist in this workspace; a worker's may lie elsewhere."""
    catalogue = here.registry.catalogue
    folders = {}
    for pack, relative in (catalogue.web_directories if catalogue else {}).items():
        try:
            folder = inside(here.workspace.root, relative)
        except PathRefused as refused:
            log.warning("The scripts of %s are not served: %s", pack, refused)
            continue
        if folder.is_dir() and folder != here.workspace.root:
            folders[pack] = folder
    return folders | {_OUR_NAME: _OURS}


def _scripts(here: Context) -> list[str]:
    found = []
    try:
        root = page_root(here)
        found += [f"/{path.relative_to(root).as_posix()}" for path in (root / "extensions").rglob("*.js")]
    except Refused:
        pass  # no page is installed: packs' scripts may still be asked for
    for pack, folder in _web_folders(here).items():
        # Ours import what lies below them themselves.
        paths = folder.glob("*.js") if folder == _OURS else folder.rglob("*.js")
        names = sorted(path.relative_to(folder).as_posix() for path in paths)
        found += [f"/extensions/{quote(pack)}/{quote(name)}" for name in names]
    return found


@routes.get("/extensions")
async def extensions(request: web.Request) -> web.Response:
    """Paths of all scripts the page is to load: its own, then the packs' and ours."""
    return web.json_response(await asyncio.to_thread(_scripts, context(request)))


@routes.get("/extensions/{pack}/{name:.+}")
async def extension(request: web.Request) -> web.StreamResponse:
    here = context(request)
    pack, name = request.match_info["pack"], request.match_info["name"]
    folder = (await asyncio.to_thread(_web_folders, here)).get(pack)
    if folder is None:
        return await serve(page_root(here), f"extensions/{pack}/{name}")
    return await serve(folder, name)


def _packs(here: Context) -> list[Path]:
    if not here.workspace.custom_nodes.is_dir():
        return []
    return sorted(
        path for path in here.workspace.custom_nodes.iterdir() if path.is_dir() and path.name[0] not in "._"
    )


def _examples(here: Context) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pack in _packs(here):
        for folder in _EXAMPLES:
            if names := sorted(path.stem for path in (pack / folder).glob("*.json")):
                found.setdefault(pack.name, []).extend(names)
    return found


@routes.get("/workflow_templates")
async def workflow_templates(request: web.Request) -> web.Response:
    """{pack: [names]} of the example workflows that packs bring."""
    return web.json_response(await asyncio.to_thread(_examples, context(request)))


@routes.get("/workflow_templates/{pack}/{name}")
async def workflow_template(request: web.Request) -> web.StreamResponse:
    """An example's JSON, or the picture of the same name beside it."""
    here = context(request)
    for pack in await asyncio.to_thread(_packs, here):
        if pack.name != request.match_info["pack"]:
            continue
        for folder in _EXAMPLES:
            try:
                return await serve(pack / folder, request.match_info["name"])
            except Refused as refusal:
                if refusal.status != 404:
                    raise
    raise Refused(404, f"There is no example {request.match_info['name']!r}.", kind="not_found")


def _json_file(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s cannot be used: %s", path, error)
        return {}
    return content if isinstance(content, dict) else {}


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Both, objects within objects merged too; the second wins."""
    result = dict(first)
    for key, value in second.items():
        known = result.get(key)
        result[key] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result


def _translations(here: Context) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pack in _packs(here):
        for folder in sorted((pack / "locales").glob("*/")):
            language = _json_file(folder / "main.json")
            for part in _LOCALE_PARTS:
                if content := _json_file(folder / f"{part}.json"):
                    language = _merged(language, {part: content})
            if language:
                found[folder.name] = _merged(found.get(folder.name, {}), language)
    return found


@routes.get("/i18n")
async def translations(request: web.Request) -> web.Response:
    """{language: texts} of all packs together."""
    return web.json_response(await asyncio.to_thread(_translations, context(request)))


def _subgraphs(here: Context) -> dict[str, tuple[dict[str, Any], Path]]:
    """{id: (description, file)} of the subgraphs packs bring; ids are the same on every frontend."""
    found = {}
    for pack in _packs(here):
        for path in sorted((pack / "subgraphs").glob("*.json")):
            id_ = hashlib.sha256(f"custom_node{pack.name}/{path.name}".encode()).hexdigest()
            found[id_] = (
                {
                    "source": "custom_node",
                    "name": path.stem,
                    "info": {"node_pack": f"custom_nodes.{pack.name}"},
                },
                path,
            )
    return found


@routes.get("/global_subgraphs")
async def global_subgraphs(request: web.Request) -> web.Response:
    """Of all packs, without the graphs themselves, as newer ComfyUI pages ask."""
    found = await asyncio.to_thread(_subgraphs, context(request))
    return web.json_response({id_: about for id_, (about, _) in found.items()})


@routes.get("/global_subgraphs/{id}")
async def global_subgraph(request: web.Request) -> web.Response:
    """One with its graph, as text in `data`."""
    found = (await asyncio.to_thread(_subgraphs, context(request))).get(request.match_info["id"])
    if found is None:
        raise Refused(404, "There is no such subgraph.", kind="not_found")
    about, path = found
    return web.json_response(about | {"data": await asyncio.to_thread(path.read_text, "utf-8")})
