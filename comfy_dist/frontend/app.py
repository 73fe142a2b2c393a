"""One frontend's web application: every route, bare and under /api, behind the guard."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any

from aiohttp import web

from comfy_dist.frontend import (
    distributed_config,
    logs,
    models,
    object_info,
    packs,
    page,
    sign_in,
    system,
    uploads,
    user_settings,
    userdata,
    users,
    views,
)
from comfy_dist.frontend.answers import MAX_JSON_BYTES
from comfy_dist.frontend.context import CONTEXT, Context
from comfy_dist.frontend.failures import failures
from comfy_dist.frontend.guard import headers, same_site
from comfy_dist.frontend.logs import LOG_BUFFER, LogBuffer
from comfy_dist.frontend.metrics import counted
from comfy_dist.frontend.object_info import ENCODED_NODES, EncodedNodes
from comfy_dist.frontend.sign_in import DOOR, make_door, signed_in

#: Files, users and what the page asks for; none of these needs the queue.
_TABLES = (
    distributed_config.routes,
    logs.routes,
    models.routes,
    object_info.routes,
    packs.routes,
    page.routes,
    system.routes,
    uploads.routes,
    user_settings.routes,
    userdata.routes,
    users.routes,
    views.routes,
)


def make_app(context: Context, route_tables: Iterable[web.RouteTableDef]) -> web.Application:
    """The application with the routes of this package and those of `route_tables`.

    As in ComfyUI each answers with and without /api, which lets a proxy tell the API from the page.
    """
    app = web.Application(
        middlewares=(counted, headers, failures, same_site, signed_in),
        client_max_size=MAX_JSON_BYTES,
    )
    app[CONTEXT] = context
    app[DOOR] = make_door(context.settings)
    app[ENCODED_NODES] = EncodedNodes()
    app[LOG_BUFFER] = LogBuffer()
    app.cleanup_ctx.append(_capture_log)
    for table in (*_TABLES, *route_tables):
        for route in table:
            if not isinstance(route, web.RouteDef):
                raise TypeError(f"Only plain routes can be under /api too, not {route!r}.")
            app.router.add_route(route.method, route.path, route.handler, **route.kwargs)
            app.router.add_route(route.method, f"/api{route.path}", route.handler, **route.kwargs)
    app.router.add_routes(sign_in.site)
    app.router.add_routes(page.site)
    return app


async def _capture_log(app: web.Application) -> AsyncIterator[None]:
    """Keep the log's last lines, and send new ones to the websocket clients that asked for them."""
    buffer, hub, loop = app[LOG_BUFFER], app[CONTEXT].hub, asyncio.get_running_loop()

    def send(clients: frozenset[str], data: dict[str, Any]) -> None:
        for client in clients:
            if hub.has(client):
                hub.send(client, None, "logs", data)
            else:
                buffer.subscribers.discard(client)

    # Any thread may log.
    buffer.listener = lambda clients, data: loop.call_soon_threadsafe(send, clients, data)
    root = logging.getLogger()
    root.addHandler(buffer)
    yield
    root.removeHandler(buffer)
    buffer.listener = None
