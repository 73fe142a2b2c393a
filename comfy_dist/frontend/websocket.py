"""GET /ws: ComfyUI's websocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import Any

from aiohttp import WSMsgType, web

from comfy_dist.frontend.answers import MAX_ID, Refused
from comfy_dist.frontend.context import Context, context
from comfy_dist.frontend.hub import Client
from comfy_dist.frontend.identity import identity_of
from comfy_dist.frontend.page import features
from comfy_dist.messages import Command

log = logging.getLogger(__name__)
routes = web.RouteTableDef()

#: Seconds between pings, so that dead clients are noticed.
HEARTBEAT = 30.0
MAX_MESSAGE = 1024 * 1024
#: Seconds for a farewell; who does not read is not waited for.
CLOSE_SECONDS = 10.0


def status(ctx: Context) -> dict[str, Any]:
    return {"status": {"exec_info": {"queue_remaining": ctx.ledger.remaining}}}


@routes.get("/ws")
async def websocket(request: web.Request) -> web.StreamResponse:
    """Status on connect; then what workers and the log send to this client id, until its user's token expires.

    The client's first text message may declare its feature flags; everything else it sends is ignored.
    """
    ctx = context(request)
    client_id = request.query.get("clientId") or None
    if client_id is not None and len(client_id) > MAX_ID:
        raise Refused(400, f"clientId is longer than {MAX_ID} characters.")
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=MAX_MESSAGE)
    await socket.prepare(request)
    identity = identity_of(request)
    client = await ctx.hub.join(socket, client_id, identity)
    client.send("status", {**status(ctx), "sid": client.id})
    writing = asyncio.create_task(client.write())
    reading = asyncio.create_task(_read(ctx, client))
    overflowing = asyncio.create_task(client.mailbox.overflowed.wait())
    tasks = (writing, reading, overflowing)
    try:
        await _show_current_node(ctx, client)
        left = None if identity.expires is None else max(0.0, identity.expires - time.time())
        await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await ctx.hub.leave(client)
        await _close(request, client)
    return socket


async def _close(request: web.Request, client: Client) -> None:
    if client.mailbox.overflowed.is_set():
        log.warning("A websocket client reads too slowly and is disconnected.")
    else:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await client.socket.close()
            return
    if request.transport is not None:
        request.transport.abort()


async def _read(ctx: Context, client: Client) -> None:
    first = True
    async for message in client.socket:
        if message.type is not WSMsgType.TEXT:
            continue
        if first:
            first = False
            if (flags := _flags(message.data)) is not None:
                client.flags.update(flags)
                client.send("feature_flags", features(ctx))


def _flags(text: str) -> dict[str, Any] | None:
    """The client's flags, None where its message is something else."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or message.get("type") != "feature_flags":
        return None
    flags = message.get("data")
    return flags if isinstance(flags, dict) else {}


async def _show_current_node(ctx: Context, client: Client) -> None:
    """A client that comes back while its prompt runs learns which node it is at (as ComfyUI tells it)."""
    for row in ctx.ledger.of_client(client.id):
        if not client.identity.sees(row.user):
            continue
        if (executing := ctx.hub.current(row.id)) is not None:
            client.mailbox.put(executing)
        else:
            # To all: the news of its start may not have come here yet; whoever executes it knows.
            await ctx.transport.send(Command(verb="replay", arguments={"job": row.id}))
