"""Model files: what the live workers have, and what lies in this workspace."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

from aiohttp import web

from comfy_dist.frontend.answers import Refused
from comfy_dist.frontend.context import Context, context
from comfy_dist.frontend.storage import confined, is_file
from comfy_dist.frontend.views import sent
from comfy_dist.workspace import model_files

routes = web.RouteTableDef()

#: What ComfyUI takes for a model.
_SUFFIXES = frozenset({".ckpt", ".gguf", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"})
_PREVIEWS = (".preview.png", ".preview.webp", ".preview.jpg", ".png", ".webp", ".jpg", ".jpeg")
#: A safetensors header is rarely over 1 MB; LoRA training notes go further.
_MAX_HEADER = 32 * 2**20


def _own(models: Path) -> dict[str, list[str]]:
    return {
        folder: [name for name in names if PurePosixPath(name).suffix.lower() in _SUFFIXES]
        for folder, names in model_files(models).items()
        if folder != "configs"
    }


async def _all(context: Context) -> dict[str, list[str]]:
    """{folder: names} of the workers and this workspace together."""
    union: dict[str, set[str]] = {}
    for folder, names in (await asyncio.to_thread(_own, context.workspace.models)).items():
        union.setdefault(folder, set()).update(names)
    if catalogue := context.registry.catalogue:
        for folder, known in catalogue.models.items():
            union.setdefault(folder, set()).update(known)
    return {folder: sorted(names) for folder, names in sorted(union.items())}


async def _folder(request: web.Request) -> tuple[str, list[str]]:
    folder = request.match_info["folder"]
    names = (await _all(context(request))).get(folder)
    if names is None:
        raise Refused(404, f"There is no model folder {folder!r}.", kind="not_found")
    return folder, names


@routes.get("/models")
async def model_folders(request: web.Request) -> web.Response:
    return web.json_response(list(await _all(context(request))))


@routes.get("/models/{folder}")
async def models_of(request: web.Request) -> web.Response:
    return web.json_response((await _folder(request))[1])


@routes.get("/embeddings")
async def embeddings(request: web.Request) -> web.Response:
    """Their names without the extension, as prompts mention them."""
    names = (await _all(context(request))).get("embeddings", [])
    return web.json_response([str(PurePosixPath(name).with_suffix("")) for name in names])


@routes.get("/experiment/models")
async def model_library(request: web.Request) -> web.Response:
    here = context(request)
    return web.json_response(
        [{"name": folder, "folders": [str(here.workspace.models / folder)]} for folder in await _all(here)]
    )


@routes.get("/experiment/models/{folder}")
async def model_library_of(request: web.Request) -> web.Response:
    """Each with size and times where the file is in this workspace; zeros where only a worker has it."""
    folder, names = await _folder(request)
    root = context(request).workspace.models / folder
    return web.json_response(await asyncio.to_thread(_described, root, names))


def _described(root: Path, names: list[str]) -> list[dict[str, Any]]:
    found = []
    for name in names:
        try:
            stat: os.stat_result | None = (root / name).stat()
        except OSError:
            stat = None
        found.append(
            {
                "name": name,
                "pathIndex": 0,
                "modified": stat.st_mtime if stat else 0,
                "created": stat.st_ctime if stat else 0,
                "size": stat.st_size if stat else 0,
            }
        )
    return found


@routes.get("/experiment/models/preview/{folder}/{index}/{name:.+}")
async def model_preview(request: web.Request) -> web.StreamResponse:
    """The picture beside a model, as it is: model.png or model.preview.png for model.safetensors."""
    match = request.match_info
    folder = confined(context(request).workspace.models, match["folder"])
    stem = str(PurePosixPath(match["name"]).with_suffix(""))
    for suffix in _PREVIEWS:
        path = confined(folder, stem + suffix)
        if await asyncio.to_thread(is_file, path):
            return sent(path)
    raise Refused(404, f"{match['name']!r} has no preview picture.", kind="not_found")


@routes.get("/view_metadata/{folder}")
async def view_metadata(request: web.Request) -> web.Response:
    """What training wrote into a safetensors file.

    404 without a body where there is nothing, as in ComfyUI: the page takes any body for metadata.
    """
    name = request.query.get("filename", "")
    if not name.endswith((".safetensors", ".sft")):
        return web.Response(status=404)
    path = confined(context(request).workspace.models, request.match_info["folder"], name)
    metadata = await asyncio.to_thread(_metadata, path)
    return web.Response(status=404) if metadata is None else web.json_response(metadata)


def _metadata(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= _MAX_HEADER:
                return None
            header = json.loads(file.read(length))
    except (OSError, ValueError, RecursionError):
        return None
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    return metadata if isinstance(metadata, dict) else None


@routes.get("/internal/folder_paths")
async def folder_paths(request: web.Request) -> web.Response:
    here = context(request)
    return web.json_response({folder: [str(here.workspace.models / folder)] for folder in await _all(here)})
