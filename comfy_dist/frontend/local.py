"""The workers that this frontend starts on its own machine (--manage-local-workers), for admins.

No request starts a program of its choice: a worker has a name and a device of this machine. Its arguments and
environment are what whoever may write to the workspace has put into the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from comfy_dist.frontend.answers import MAX_ID, Refused, read_object, whole_number
from comfy_dist.frontend.context import context
from comfy_dist.frontend.identity import require_admin
from comfy_dist.local_workers import (
    EntriesUnusable,
    LocalWorkers,
    NameTaken,
    NoSuchDevice,
    NoSuchEntry,
    Supervisor,
    shown_arguments,
)
from comfy_dist.local_workers.entries import NAME

routes = web.RouteTableDef()

#: Lines of a log that are shown where nobody says how many.
LINES = 200
_DEEDS = ("start", "stop", "restart")
_SAID = ("name", "device", "enabled")
_BY_HAND = ("arguments", "environment")


@routes.get("/distributed/local")
async def get_local(request: web.Request) -> web.Response:
    """This machine's devices, its workers and how they are; `managed` false where there are none to manage."""
    require_admin(request)
    local = context(request).local
    if local is None:
        return web.json_response({"managed": False, "devices": [], "workers": [], "error": None})
    await local.look()
    devices = [{"id": gpu.id, "name": gpu.name} for gpu in local.gpus]
    workers = [_shown(each) for each in local.supervisors]
    return web.json_response({"managed": True, "devices": devices, "workers": workers, "error": local.error})


@routes.post("/distributed/workers")
async def post_workers(request: web.Request) -> web.Response:
    """Another worker on this machine, which is started unless it is not enabled."""
    local = _managed(request)
    body = await read_object(request)
    _check(body, local, _SAID)
    if not {"name", "device"} <= body.keys():
        raise Refused(400, "A new worker needs a name and a device; GET /distributed/local lists this machine's.")
    with _answered():
        added = await local.add(body["name"], body["device"], enabled=body.get("enabled", True))
    return web.json_response(_shown(added), status=201)


@routes.post("/distributed/local/{id}")
async def post_local(request: web.Request) -> web.Response:
    """Start, stop or restart a worker, or change its entry."""
    local = _managed(request)
    id_ = request.match_info["id"]
    body = await read_object(request)
    _check(body, local, (*_DEEDS, *_SAID))
    deeds = [deed for deed in _DEEDS if deed in body]
    if not body or (deeds and len(body) > 1):
        raise Refused(400, f"What is to be done? One of {', '.join(_DEEDS)}: true, or any of {', '.join(_SAID)}.")
    with _answered():
        match deeds:
            case ["start"]:
                worker = await local.start(id_)
            case ["stop"]:
                worker = await local.stop(id_)
            case ["restart"]:
                worker = await local.restart(id_)
            case _:
                worker = await local.change(id_, **body)
    return web.json_response(_shown(worker))


@routes.delete("/distributed/workers/{id}")
async def delete_worker(request: web.Request) -> web.Response:
    """Remove a worker of this machine for good; if it runs, it finishes what it has first."""
    local = _managed(request)
    id_ = request.match_info["id"]
    with _answered():
        await local.remove(id_)
    return web.json_response({"removed": id_})


@routes.get("/distributed/local/{id}/log")
async def get_local_log(request: web.Request) -> web.Response:
    """The last `lines` of what the worker wrote, also when it does not run, without what looks like a secret."""
    local = _managed(request)
    lines = whole_number(request, "lines")
    with _answered():
        worker = local.find(request.match_info["id"])
    return web.json_response(
        {"lines": await asyncio.to_thread(worker.log.last, LINES if lines is None else lines)}
    )


def _managed(request: web.Request) -> LocalWorkers:
    require_admin(request)
    if (local := context(request).local) is None:
        raise Refused(
            403,
            "This frontend manages no workers of its machine; start comfyui with --manage-local-workers.",
            kind="not_managed",
        )
    return local


def _check(body: dict[str, Any], local: LocalWorkers, keys: tuple[str, ...]) -> None:
    if by_hand := [key for key in _BY_HAND if key in body]:
        raise Refused(
            400,
            f"{by_hand[0]} cannot be set over HTTP, for it could start any program: whoever may write to this "
            f"machine puts it into {local.place.file}.",
            kind="by_hand_only",
        )
    if unknown := body.keys() - set(keys):
        raise Refused(400, f"{min(unknown)[:MAX_ID]!r} is not known here; the body may have {', '.join(keys)}.")
    for key in _DEEDS:
        if body.get(key, True) is not True:
            raise Refused(400, f"{key} can only be true.")
    if not isinstance(body.get("enabled", True), bool):
        raise Refused(400, "enabled must be true or false.")
    if not _is_text(body.get("name", "name"), NAME):
        raise Refused(400, "name must be 1 to 40 letters, digits, dots, dashes or underscores.")
    if not isinstance(body.get("device", ""), str):
        raise Refused(400, "device must be the id of one of GET /distributed/local, or cpu.")


def _is_text(value: object, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    """What local workers refuse, with its status."""
    try:
        yield
    except NoSuchEntry as error:
        raise Refused(404, str(error), kind="unknown_worker") from None
    except NoSuchDevice as error:
        raise Refused(400, str(error), kind="unknown_device") from None
    except NameTaken as error:
        raise Refused(409, str(error), kind="name_taken") from None
    except EntriesUnusable as error:
        raise Refused(409, str(error), kind="entries_unusable") from None


def _shown(worker: Supervisor) -> dict[str, Any]:
    entry = worker.entry
    return {
        "id": entry.id,
        "name": entry.name,
        "device": entry.device,
        "arguments": shown_arguments(entry.arguments),
        # Their values may be secrets, whatever they are called.
        "environment": sorted(entry.environment),
        "enabled": entry.enabled,
        "state": worker.state,
        "pid": worker.pid,
        "restarts": worker.restarts,
        "worker": worker.worker,
        "error": worker.error,
    }
