"""/userdata and /v2/userdata: the page's workflows, subgraphs and templates, per user."""

from __future__ import annotations

import asyncio
import functools
import os
from pathlib import Path
from typing import Any

from aiohttp import web

from comfy_dist.frontend.answers import Refused, TooLarge, truth
from comfy_dist.frontend.content_types import ACTIVE, UNKNOWN, content_type
from comfy_dist.frontend.context import context
from comfy_dist.frontend.storage import CHUNK, confined, is_file, part_file, place, receive, usable_name
from comfy_dist.frontend.users import user_folder

routes = web.RouteTableDef()

#: What the page asks for at start before it ever stored it. ComfyUI answers 404, which browsers print as an
#: error on every new user's console.
_EMPTY_FOLDERS = frozenset({"workflows", "subgraphs"})
_EMPTY_FILES = {"user.css": ("text/css", ""), "comfy.templates.json": ("application/json", "[]")}


def _described(path: Path, relative_to: Path) -> dict[str, Any]:
    stat = path.stat()
    return {
        "path": path.relative_to(relative_to).as_posix(),
        "size": stat.st_size,
        "modified": stat.st_mtime,
        "created": stat.st_ctime,
    }


def _walk(folder: Path, *, recurse: bool = True) -> tuple[list[Path], list[Path]]:
    """(folders, files) below, hidden ones left out, links not followed out of the folder."""
    folders: list[Path] = []
    files: list[Path] = []
    for here, names, found in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        folders += [Path(here, name) for name in names]
        files += [Path(here, name) for name in sorted(found) if not name.startswith(".")]
        if not recurse:
            break
    return folders, [path for path in files if is_file(path)]


@routes.get("/userdata")
async def list_userdata(request: web.Request) -> web.Response:
    """Names below `dir`; with full_info their descriptions, with split [name, parts…]."""
    query = request.query
    if not (wanted := query.get("dir", "")):
        return web.Response(status=400, text="Directory not provided")
    root = await user_folder(request)
    folder = confined(root, wanted.rstrip("/"))
    if not await asyncio.to_thread(folder.is_dir):
        if wanted.strip("/") in _EMPTY_FOLDERS:
            return web.json_response([])
        return web.Response(status=404, text="Directory not found")
    answer = functools.partial(
        _listed,
        folder,
        recurse=truth(query.get("recurse")),
        full_info=truth(query.get("full_info")),
        split=truth(query.get("split")),
    )
    return web.json_response(await asyncio.to_thread(answer))


def _listed(folder: Path, *, recurse: bool, full_info: bool, split: bool) -> list[Any]:
    _, files = _walk(folder, recurse=recurse)
    if full_info:
        return [_described(path, folder) for path in files]
    names = [path.relative_to(folder) for path in files]
    return [[name.as_posix(), *name.parts] if split else name.as_posix() for name in names]


@routes.get("/v2/userdata")
async def list_userdata_v2(request: web.Request) -> web.Response:
    """Folders and files below `path`, by paths relative to the user's folder; always recursive."""
    root = await user_folder(request)
    folder = confined(root, request.query.get("path", ""))
    if not await asyncio.to_thread(folder.is_dir):
        if folder == root:
            return web.json_response([])
        if await asyncio.to_thread(folder.exists):
            return web.Response(status=400, text="Requested path is a file, not a folder")
        return web.Response(status=404, text="Requested path not found")
    return web.json_response(await asyncio.to_thread(_listed_v2, folder, root))


def _listed_v2(folder: Path, root: Path) -> list[dict[str, Any]]:
    folders, files = _walk(folder)
    found: list[dict[str, Any]] = [
        {"name": path.name, "path": path.relative_to(root).as_posix(), "type": "directory"} for path in folders
    ]
    for path in files:
        about = _described(path, root)
        found.append({"name": path.name, "path": about["path"], "type": "file"})
        found[-1] |= {"size": about["size"], "modified": about["modified"]}
    return found


async def _existing(root: Path, name: str) -> Path:
    path = confined(root, name)
    if not await asyncio.to_thread(is_file, path):
        raise Refused(404, f"There is no user file {name!r}.", kind="not_found")
    return path


@routes.get("/userdata/{file}")
async def get_userdata(request: web.Request) -> web.StreamResponse:
    """The file; its name is URL-encoded as one segment, slashes as %2F."""
    name = request.match_info["file"]
    root = await user_folder(request)
    try:
        path = await _existing(root, name)
    except Refused as refusal:
        if refusal.status == 404 and name in _EMPTY_FILES:
            type_, text = _EMPTY_FILES[name]
            return web.Response(text=text, content_type=type_)
        raise
    type_ = content_type(path.name)
    # User files are data: a stored page must not run here. The one style sheet is the page's own.
    if type_ in ACTIVE and name != "user.css":
        type_ = UNKNOWN
    return web.FileResponse(path, headers={"Content-Type": type_, "Cache-Control": "no-cache"})


@routes.post("/userdata/{file}")
async def store_userdata(request: web.Request) -> web.Response:
    """Store the body; 409 with `overwrite=false` if the file is there."""
    limit = round(context(request).settings.max_upload_size * 2**20)
    if request.content_length and request.content_length > limit:
        raise TooLarge(limit, "--max-upload-size")
    root = await user_folder(request)
    target = _target(root, request.match_info["file"])
    with part_file(root) as part:
        await receive(request.content.iter_chunked(CHUNK), part, limit)
        return await _stored(request, root, part, target, overwrite=request.query.get("overwrite") != "false")


def _target(root: Path, name: str) -> Path:
    path = confined(root, name)
    if path == root or not name.strip("/. ") or name.endswith("/"):
        raise Refused(400, f"{name!r} is not a file name.")
    return path


async def _stored(request: web.Request, root: Path, part: Path, target: Path, *, overwrite: bool) -> web.Response:
    try:
        await asyncio.to_thread(place, part, target, overwrite=overwrite)
    except FileExistsError:
        return web.Response(status=409, text="File already exists")
    if truth(request.query.get("full_info")):
        return web.json_response(await asyncio.to_thread(_described, target, root))
    return web.json_response(target.relative_to(root).as_posix())


@routes.delete("/userdata/{file}")
async def delete_userdata(request: web.Request) -> web.Response:
    path = await _existing(await user_folder(request), request.match_info["file"])
    with usable_name():
        await asyncio.to_thread(path.unlink, missing_ok=True)
    return web.Response(status=204)


@routes.post("/userdata/{file}/move/{dest}")
async def move_userdata(request: web.Request) -> web.Response:
    """Rename; 409 if the new name is taken, unless `overwrite=true` (ComfyUI's default for it is true)."""
    root = await user_folder(request)
    source = await _existing(root, request.match_info["file"])
    target = _target(root, request.match_info["dest"])
    return await _stored(request, root, source, target, overwrite=request.query.get("overwrite") != "false")
