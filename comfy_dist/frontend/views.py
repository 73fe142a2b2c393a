"""GET /view: files out of the workspace's input, output and temp folders."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from comfy_dist.files.names import Named
from comfy_dist.frontend import imaging
from comfy_dist.frontend.answers import Refused
from comfy_dist.frontend.content_types import ACTIVE, UNKNOWN, content_type
from comfy_dist.frontend.context import Context, context
from comfy_dist.frontend.storage import confined, is_file
from comfy_dist.workspace import inside, split_annotation

routes = web.RouteTableDef()


@routes.get("/view")
async def view(request: web.Request) -> web.StreamResponse:
    """ComfyUI's /view: the file with ranges and ETag, or re-encoded by `preview` and `channel`.

    400 for a name that is none or a wrong type, 403 where subfolder or a link leads out, 404 for absent.
    """
    file = _named(request)
    path = await located(context(request), file)
    if path is None:
        raise Refused(404, f"There is no file {file.name!r} in {file.type}.", kind="not_found")
    name = file.name.rpartition("/")[2]
    if wanted := request.query.get("preview"):
        format, _, quality = wanted.partition(";")
        format = format if format in ("webp", "jpeg") and request.query.get("channel") != "a" else "webp"
        percent = min(100, int(quality)) if quality.isdecimal() and len(quality) < 10 else 90
        content = await asyncio.to_thread(imaging.preview, path, format=format, quality=percent)
        return _encoded(content, f"image/{format}", name)
    if (channel := request.query.get("channel", "rgba")) in ("rgb", "a"):
        return _encoded(await asyncio.to_thread(imaging.channel, path, channel), "image/png", name)
    return sent(path, name)


def _named(request: web.Request) -> Named:
    query = request.query
    if not (filename := query.get("filename")):
        raise Refused(400, "/view needs the name of a file: ?filename=NAME&type=output.")
    filename, type_ = split_annotation(filename, "output")
    if filename == query["filename"]:
        type_ = query.get("type", "output")
    # Two looks: a name that is no name is the client's mistake, one that leads out is refused.
    folder = context(request).workspace.folder(type_)
    _no_traversal(filename)
    subfolder = query.get("subfolder", "")
    confined(folder, subfolder, filename)
    return Named(type_, "/".join(filter(None, (subfolder.strip("/"), filename))))


async def located(ctx: Context, file: Named) -> Path | None:
    """The file in our folders, else fetched from whoever has it; None where nobody does.

    403 where a link leads out of the folder.
    """
    path = confined(ctx.workspace.folder(file.type), file.name)
    if await asyncio.to_thread(is_file, path):
        return path
    return await ctx.files.get(file) if ctx.files is not None else None


def _no_traversal(filename: str) -> None:
    """400 for names inside() would refuse anywhere: dot-dot, absolute, a zero byte."""
    inside(Path("/nowhere"), filename)


def sent(path: Path, name: str | None = None) -> web.FileResponse:
    """The file as it is, with ranges, ETag and Last-Modified, by its name or another.

    What a browser would run is sent to be saved.
    """
    name = name or path.name
    type_ = content_type(name)
    active = type_ in ACTIVE
    headers = {"Content-Type": UNKNOWN if active else type_}
    headers["Content-Disposition"] = disposition(name, attachment=active)
    return web.FileResponse(path, headers=headers)


def disposition(name: str, *, attachment: bool = False) -> str:
    """`filename="…"` as ComfyUI sends; names that do not fit there also as RFC 6266's filename*."""
    plain = "".join(letter if " " <= letter <= "~" and letter not in '"\\' else "_" for letter in name)
    value = f'filename="{plain}"'
    if plain != name:
        value += f"; filename*=UTF-8''{quote(name, safe='')}"
    return f"attachment; {value}" if attachment else value


def _encoded(content: bytes, type_: str, name: str) -> web.Response:
    return web.Response(body=content, content_type=type_, headers={"Content-Disposition": disposition(name)})


@routes.get("/internal/files/{type}")
async def list_files(request: web.Request) -> web.Response:
    """The files of input, output or temp, newest first, as the page's media panel lists them."""
    type_ = request.match_info["type"]
    if type_ not in ("input", "output", "temp"):
        return web.json_response({"error": "Invalid directory type"}, status=400)
    return web.json_response(await asyncio.to_thread(_newest_first, context(request).workspace.folder(type_)))


def _newest_first(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    files = [path for path in folder.iterdir() if not path.name.startswith(".") and is_file(path)]
    return [path.name for path in sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)]
