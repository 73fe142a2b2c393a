"""/internal/logs: this frontend's own log, as the page's log panel shows it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from comfy_dist.frontend.answers import Refused, read_object
from comfy_dist.frontend.identity import require_admin

routes = web.RouteTableDef()

_KEPT = 300
_SIZE = {"cols": 120, "rows": 50}


class LogBuffer(logging.Handler):
    """The last lines of the log, and who wants the next ones.

    `listener` is called from whatever thread logs, with the subscribers and the `logs` event's data.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        self.subscribers: set[str] = set()
        self.listener: Callable[[frozenset[str], dict[str, Any]], object] | None = None
        self._entries: deque[dict[str, str]] = deque(maxlen=_KEPT)

    @property
    def entries(self) -> list[dict[str, str]]:
        return list(self._entries)

    def emit(self, record: logging.LogRecord) -> None:
        when = datetime.fromtimestamp(record.created, UTC).astimezone().replace(tzinfo=None)
        entry = {"t": when.isoformat(), "m": self.format(record) + "\n"}
        self._entries.append(entry)
        if self.listener and self.subscribers:
            self.listener(frozenset(self.subscribers), {"entries": [entry], "size": _SIZE})


LOG_BUFFER: web.AppKey[LogBuffer] = web.AppKey("log_buffer", LogBuffer)


@routes.get("/internal/logs")
async def logs(request: web.Request) -> web.Response:
    """ComfyUI's: one JSON string."""
    require_admin(request)
    lines = [f"{entry['t']} - {entry['m']}" for entry in request.app[LOG_BUFFER].entries]
    return web.json_response("".join(lines))


@routes.get("/internal/logs/raw")
async def raw_logs(request: web.Request) -> web.Response:
    require_admin(request)
    return web.json_response({"entries": request.app[LOG_BUFFER].entries, "size": _SIZE})


@routes.patch("/internal/logs/subscribe")
async def subscribe_logs(request: web.Request) -> web.Response:
    """`{clientId, enabled}`: whether that websocket client is sent `logs` events."""
    require_admin(request)
    body = await read_object(request)
    client = body.get("clientId")
    if not isinstance(client, str) or not client:
        raise Refused(400, 'Name the websocket client: {"clientId": ID, "enabled": true}.')
    subscribers = request.app[LOG_BUFFER].subscribers
    if body.get("enabled"):
        subscribers.add(client)
    else:
        subscribers.discard(client)
    return web.Response()
