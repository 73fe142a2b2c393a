"""GET / and the files of ComfyUI's web page, and of the packages that go with it."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
from pathlib import Path, PurePosixPath
from typing import Any

from aiohttp import web

from comfy_dist.frontend.answers import Refused
from comfy_dist.frontend.content_types import content_type
from comfy_dist.frontend.context import Context, context
from comfy_dist.frontend.storage import confined, is_file

#: Under / and /api.
routes = web.RouteTableDef()
#: Under / alone, after everything else: any path may be one of the page's files.
site = web.RouteTableDef()

_NO_CACHE = frozenset({".html", ".js", ".css"})
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg", ".ico"})
#: Asked for at start; without the optional package the page shows no templates rather than an error.
_NO_TEMPLATES = {"index.json": "[]", "index_logo.json": "{}"}


@functools.cache
def _package(name: str) -> Path | None:
    """Where a package lies, without importing it."""
    spec = importlib.util.find_spec(name)
    locations = spec.submodule_search_locations if spec else None
    return Path(next(iter(locations))) if locations else None


def page_root(here: Context) -> Path:
    """The folder of the page: --front-end-root, else comfyui-frontend-package."""
    if given := here.settings.front_end_root:
        return given.expanduser()
    if package := _package("comfyui_frontend_package"):
        return package / "static"
    raise Refused(404, "The web page is not installed: pip install comfyui-frontend-package.", kind="no_page")


def cache_control(path: PurePosixPath) -> str | None:
    """ComfyUI's caching: code is checked each time (an update must show), pictures are kept a day."""
    if path.suffix in _NO_CACHE or (path.suffix == ".json" and path.name.startswith("index")):
        return "no-cache"
    return "public, max-age=86400" if path.suffix in _PICTURES else None


async def serve(folder: Path, name: str) -> web.StreamResponse:
    """A file of a folder that is published whole; 403 where the name leads out, 404 for absent."""
    path = confined(folder, name)
    if not await asyncio.to_thread(is_file, path):
        raise Refused(404, f"There is no file {name!r} here.", kind="not_found")
    response = web.FileResponse(path, headers={"Content-Type": content_type(name)})
    if caching := cache_control(PurePosixPath(name)):
        response.headers["Cache-Control"] = caching
    return response


def features(here: Context) -> dict[str, Any]:
    """What /features answers and the websocket's feature_flags say; they must be the same.

    Left out are flags of ComfyUI's cloud, and `supports_progress_text_metadata`, which would change the
    layout of binary text frames.
    """
    return {
        "supports_preview_metadata": True,
        "max_upload_size": round(here.settings.max_upload_size * 2**20),
    }


@routes.get("/features")
async def get_features(request: web.Request) -> web.Response:
    return web.json_response(features(context(request)))


@routes.get("/templates/{name:.+}")
async def template(request: web.Request) -> web.StreamResponse:
    """Example workflows and their pictures, from comfyui-workflow-templates where it is installed.

    That package is a thin one; the files lie in `templates/` of several beside it.
    """
    name = request.match_info["name"]
    if package := _package("comfyui_workflow_templates"):
        for folder in await asyncio.to_thread(_template_folders, package):
            path = confined(folder, name)
            if await asyncio.to_thread(is_file, path):
                return await serve(folder, name)
    if name in _NO_TEMPLATES:
        return web.Response(text=_NO_TEMPLATES[name], content_type="application/json")
    raise Refused(404, f"There is no template file {name!r}.", kind="not_found")


@functools.cache
def _template_folders(package: Path) -> tuple[Path, ...]:
    return tuple(sorted(package.parent.glob("comfyui_workflow_templates*/templates")))


@routes.get("/docs/{name:.+}")
async def node_help(request: web.Request) -> web.StreamResponse:
    """Help texts of nodes, from comfyui-embedded-docs where it is installed."""
    name = request.match_info["name"]
    if package := _package("comfyui_embedded_docs"):
        return await serve(package / "docs", name)
    raise Refused(404, f"There is no help file {name!r}.", kind="not_found")


@site.get("/")
async def index(request: web.Request) -> web.StreamResponse:
    return await serve(page_root(context(request)), "index.html")


@site.get("/user.css")
async def user_css(request: web.Request) -> web.StreamResponse:
    """Linked by every page; empty unless the page's folder has one."""
    root = page_root(context(request))
    if await asyncio.to_thread(is_file, root / "user.css"):
        return await serve(root, "user.css")
    return web.Response(content_type="text/css", headers={"Cache-Control": "no-cache"})


@site.get("/{name:.+}")
async def page_file(request: web.Request) -> web.StreamResponse:
    return await serve(page_root(context(request)), request.match_info["name"])
