"""GET /system_stats: which machines work here."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

from comfy_dist import __version__
from comfy_dist.frontend.context import Context, context
from comfy_dist.memory import main_memory
from comfy_dist.messages import Device
from comfy_dist.registry import version_of

routes = web.RouteTableDef()

#: Shown while no worker is known: the page's About panel needs a device.
_NO_DEVICE = Device(name="no worker is connected", type="cpu")


@routes.get("/system_stats")
async def system_stats(request: web.Request) -> web.Response:
    """ComfyUI's shape; the memory is this frontend's machine's, the devices are all live workers'."""
    here = context(request)
    return web.json_response({"system": _system(here), "devices": _devices(here)})


def _system(here: Context) -> dict[str, Any]:
    total, free = main_memory()
    workers = here.registry.workers
    catalogue = here.registry.catalogue
    newest = max(workers, key=lambda worker: version_of(worker.engine_version), default=None) or catalogue
    return {
        "os": os.name,
        "ram_total": total,
        "ram_free": free,
        "comfyui_version": (newest and newest.engine_version) or "unknown",
        "required_frontend_version": _installed("comfyui-frontend-package"),
        "installed_templates_version": _installed("comfyui-workflow-templates"),
        "required_templates_version": _installed("comfyui-workflow-templates"),
        "python_version": sys.version,
        "pytorch_version": (newest and newest.pytorch_version) or "unknown",
        "embedded_python": False,
        # The last one keeps the page from asking comfy.org for ComfyUI's releases, which are not ours.
        "argv": [Path(sys.argv[0]).name, *_flags(sys.argv[1:]), "--disable-api-nodes"],
        "comfy_dist_version": __version__,
    }


def _flags(argv: list[str]) -> list[str]:
    """The flags' names alone: their values may be passwords."""
    return [word.partition("=")[0] for word in argv if word.startswith("-")]


def _devices(here: Context) -> list[dict[str, Any]]:
    """Every worker's devices, numbered through: the page tells them apart by index."""
    found = [
        device.model_dump() | {"worker": worker.name}
        for worker in here.registry.workers
        for device in worker.devices
    ]
    if not found:
        catalogue = here.registry.catalogue
        known = catalogue.devices if catalogue and catalogue.devices else (_NO_DEVICE,)
        found = [device.model_dump() for device in known]
    if len(found) > 1:
        found = [device | {"index": index} for index, device in enumerate(found)]
    return found


@functools.cache
def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@routes.get("/node_replacements")
async def node_replacements(request: web.Request) -> web.Response:
    """Which classes stand in for removed ones: none, as in a ComfyUI whose packs register none."""
    return web.json_response({})
