"""POST /upload/image and /upload/mask: files into the workspace's folders."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from comfy_dist.files.names import Named
from comfy_dist.frontend import imaging
from comfy_dist.frontend.answers import Refused, TooLarge, truth
from comfy_dist.frontend.context import Context, context
from comfy_dist.frontend.sniffing import HEAD, is_image, promises_image
from comfy_dist.frontend.storage import CHUNK, is_file, part_file, place, receive
from comfy_dist.frontend.views import located
from comfy_dist.workspace import PathRefused, Workspace, inside

routes = web.RouteTableDef()

#: Longest values of the form fields beside the file, all together with their names.
_MAX_FIELD = 2**16


@dataclass(slots=True)
class _Form:
    """A multipart upload: one file, on disk, and the fields around it, in whatever order they came."""

    part: Path
    filename: str | None = None
    digest: str = ""
    fields: dict[str, str] = field(default_factory=dict)


@routes.post("/upload/image")
async def upload_image(request: web.Request) -> web.Response:
    """ComfyUI's upload of any file by the page: pictures, video, audio.

    The same content under the same name is reused, other content is stored as "name (1)". Unlike in
    ComfyUI an empty file, and a broken picture, are refused here rather than by the prompt that loads them.
    """
    workspace = context(request).workspace
    with part_file(workspace.temp) as part:
        form = await _read(request, part)
        name = _file_name(form)
        if promises_image(name) and not is_image(await asyncio.to_thread(_head, part)):
            raise Refused(400, f"{name!r} is not a picture; upload a PNG, JPEG, WebP, GIF or BMP file.")
        return await _store(workspace, form, name, part, form.digest)


@routes.post("/upload/mask")
async def upload_mask(request: web.Request) -> web.Response:
    """ComfyUI's mask editor: the upload's transparency is put on the picture `original_ref` names."""
    workspace = context(request).workspace
    with part_file(workspace.temp) as part, part_file(workspace.temp) as composed:
        form = await _read(request, part)
        name = _file_name(form)
        original = await _original(context(request), form.fields.get("original_ref", ""))
        await asyncio.to_thread(imaging.apply_mask, original, part, composed)
        return await _store(workspace, form, name, composed, await asyncio.to_thread(_digest, composed))


async def _read(request: web.Request, part: Path) -> _Form:
    """Stream the file to `part` under --max-upload-size and collect the fields."""
    limit = round(context(request).settings.max_upload_size * 2**20)
    if not request.content_type.startswith("multipart/"):
        raise Refused(400, "An upload is a multipart form with the file as `image`.")
    if request.content_length and request.content_length > limit + _MAX_FIELD:
        raise TooLarge(limit, "--max-upload-size")
    form, room = _Form(part), _MAX_FIELD
    try:
        async for item in await request.multipart():
            if not isinstance(item, BodyPartReader):
                continue
            if item.name == "image" and form.filename is None:
                digest = hashlib.sha256()
                form.filename = item.filename or ""
                if not await receive(_chunks(item), part, limit, digest):
                    raise Refused(400, f"The uploaded file {form.filename!r} is empty.")
                form.digest = digest.hexdigest()
            elif item.name:
                room -= len(item.name)
                form.fields[item.name] = value = await _field(item, room)
                room -= len(value)
    except (ValueError, AssertionError, HttpProcessingError) as error:  # aiohttp's, for a broken form
        reason = " ".join(str(error).split()).rstrip(".")
        raise Refused(400, f"The upload is no complete multipart form: {reason}.") from None
    if not form.filename:
        raise Refused(400, "The upload has no file; send it as `image`, with a file name.")
    return form


async def _chunks(item: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await item.read_chunk(CHUNK):
        yield chunk


async def _field(item: BodyPartReader, room: int) -> str:
    value = b""
    async for chunk in _chunks(item):
        value += chunk
        if len(value) > room:
            break
    if len(value) > room:
        raise TooLarge(_MAX_FIELD)
    return value.decode("utf-8", "replace")


def _file_name(form: _Form) -> str:
    """The upload's name: one name, not a path."""
    name = form.filename or ""
    if "/" in name or "\\" in name or not name.strip(". ") or not name.isprintable():
        raise PathRefused(f"{name!r} is not a file name; folders are given as `subfolder`.")
    return name


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _original(ctx: Context, reference: str) -> Path:
    try:
        fields = json.loads(reference)
        names = [str(fields.get("subfolder") or ""), str(fields["filename"])]
        type_ = str(fields.get("type") or "output")
        inside(ctx.workspace.folder(type_), *names)
    except (ValueError, KeyError, AttributeError, TypeError):
        raise Refused(
            400, "A mask needs `original_ref`, JSON as {filename, subfolder, type}, of the picture under it."
        ) from None
    path = await located(ctx, Named(type_, "/".join(filter(None, names))))
    if path is None:
        raise Refused(404, f"The picture under the mask, {names[1]!r}, is not there.", kind="not_found")
    return path


async def _store(workspace: Workspace, form: _Form, name: str, part: Path, digest: str) -> web.Response:
    type_ = form.fields.get("type") or "input"
    subfolder = form.fields.get("subfolder", "")
    folder = workspace.folder(type_)
    stored = await asyncio.to_thread(
        functools.partial(
            _settle, folder, subfolder, name, part, digest, overwrite=truth(form.fields.get("overwrite"))
        )
    )
    return web.json_response({"name": stored, "subfolder": subfolder, "type": type_})


def _settle(folder: Path, subfolder: str, name: str, part: Path, digest: str, *, overwrite: bool) -> str:
    """Place the file under its name, or the first numbered one that is free or holds the same."""
    size = part.stat().st_size
    stem, suffix = Path(name).stem, Path(name).suffix
    candidate, number = name, 0
    while True:
        target = inside(folder, subfolder, candidate)
        if not overwrite and is_file(target) and target.stat().st_size == size and _digest(target) == digest:
            return candidate
        try:
            place(part, target, overwrite=overwrite)
        except FileExistsError:
            number += 1
            candidate = f"{stem} ({number}){suffix}"
        else:
            return candidate
