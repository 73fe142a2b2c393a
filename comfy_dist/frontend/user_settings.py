"""GET and POST /settings: the page's own settings, per user."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from pathlib import Path
from typing import Any

from aiohttp import web

from comfy_dist.frontend.answers import read_json, read_object
from comfy_dist.frontend.storage import write_atomically
from comfy_dist.frontend.users import user_folder

log = logging.getLogger(__name__)
routes = web.RouteTableDef()

#: ComfyUI's name for the file, so that a workspace can go back and forth.
_FILE = "comfy.settings.json"
_writing = threading.Lock()


def _load(folder: Path) -> dict[str, Any]:
    path = folder / _FILE
    try:
        settings = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("The page's settings in %s cannot be read, so none are used: %s", path, error)
        return {}
    return settings if isinstance(settings, dict) else {}


def _merge(folder: Path, changes: dict[str, Any]) -> None:
    with _writing:
        write_atomically(folder / _FILE, json.dumps(_load(folder) | changes, indent=4).encode())


@routes.get("/settings")
async def get_settings(request: web.Request) -> web.Response:
    return web.json_response(await asyncio.to_thread(_load, await user_folder(request)))


@routes.get("/settings/{id}")
async def get_setting(request: web.Request) -> web.Response:
    """The value, or null for one that was never set."""
    settings = await asyncio.to_thread(_load, await user_folder(request))
    return web.json_response(settings.get(request.match_info["id"]))


@routes.post("/settings")
async def merge_settings(request: web.Request) -> web.Response:
    changes = await read_object(request)
    await asyncio.to_thread(_merge, await user_folder(request), changes)
    return web.Response()


@routes.post("/settings/{id}")
async def set_setting(request: web.Request) -> web.Response:
    value = await read_json(request)
    await asyncio.to_thread(_merge, await user_folder(request), {request.match_info["id"]: value})
    return web.Response()
