"""Whose settings and files a request means: who signed in, with --multi-user the `comfy-user`, or everyone."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import uuid
from pathlib import Path

from aiohttp import web

from comfy_dist.frontend.answers import Refused, read_object
from comfy_dist.frontend.context import Context, context
from comfy_dist.frontend.identity import ANYONE, identity_of, user_of
from comfy_dist.frontend.storage import confined, write_atomically
from comfy_dist.workspace import user_folder_name

routes = web.RouteTableDef()

_DEFAULT = "default"
_writing = threading.Lock()


def _load(here: Context) -> dict[str, str]:
    """{user id: name} of --multi-user, from ComfyUI's users.json."""
    try:
        users = json.loads((here.workspace.user / "users.json").read_text("utf-8"))
    except FileNotFoundError:
        users = {}
    except (OSError, ValueError) as error:
        raise Refused(500, f"user/users.json cannot be read: {error}.", kind="users_unreadable") from None
    return {_DEFAULT: _DEFAULT} | {str(id_): str(name) for id_, name in users.items()}


async def user_folder(request: web.Request) -> Path:
    """The folder of the user who asks; 401 for one who is not known."""
    here = context(request)
    user = _DEFAULT
    if (name := user_of(request)) is not None:
        user = user_folder_name(name)
    elif here.settings.multi_user:
        user = request.headers.get("comfy-user", "")
        if user not in await asyncio.to_thread(_load, here):
            raise Refused(401, f"There is no user {user!r}; choose or create one first.", kind="unknown_user")
    return confined(here.workspace.user, user)


@routes.get("/users")
async def list_users(request: web.Request) -> web.Response:
    """ComfyUI's: the users to choose from, or in single-user mode whether settings were ever kept here."""
    here = context(request)
    if here.settings.multi_user:
        return web.json_response({"storage": "server", "users": await asyncio.to_thread(_load, here)})
    migrated = await asyncio.to_thread((await user_folder(request)).is_dir)
    return web.json_response({"storage": "server", "migrated": migrated})


@routes.post("/users")
async def create_user(request: web.Request) -> web.Response:
    """A new user's id as a JSON string."""
    if identity_of(request) is not ANYONE:
        raise Refused(403, "Users are those whom keys or tokens are for; none can be added here.", kind="not_here")
    name = (await read_object(request)).get("username")
    if not isinstance(name, str) or not name.strip():
        return web.json_response({"error": 'A user needs a name: {"username": "NAME"}.'}, status=400)
    here = context(request)
    id_ = await asyncio.to_thread(_add, here, name.strip())
    if id_ is None:
        return web.json_response({"error": "Duplicate username."}, status=400)
    return web.json_response(id_)


def _add(here: Context, name: str) -> str | None:
    with _writing:
        users = _load(here)
        if name in users.values():
            return None
        # The id is a folder name, and no other user's: two names may come down to the same letters.
        id_ = f"{re.sub(r'[^A-Za-z0-9-]+', '_', name)[:64]}_{uuid.uuid4()}"
        users[id_] = name
        users.pop(_DEFAULT)
        write_atomically(here.workspace.user / "users.json", json.dumps(users, indent=4).encode())
    return id_
