"""The HTTP server of a plane: tensors, by rows, and answers to questions, for whoever has a token."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from aiohttp import web
from aiohttp.typedefs import Handler

from comfy_dist.errors import ComfyDistError
from comfy_dist.tensors.errors import Refused
from comfy_dist.tensors.holding import Holder
from comfy_dist.tensors.question_sockets import Questioned
from comfy_dist.tensors.sending import send, share
from comfy_dist.tensors.ways import seconds_for

log = logging.getLogger(__name__)

#: Seconds that transfers get when the plane is closed.
_SHUTDOWN_SECONDS = 1.0


class PlaneServer:
    """Sets the holder's address while it serves. A place that cannot be served is a warning: the relay remains."""

    def __init__(self, holder: Holder, place: Mapping[str, Any], folder: Path | None, patience: float) -> None:
        self._holder = holder
        self._listen = str(place.get("listen", ""))
        self._port = int(place.get("port", 0))
        self._advertise = str(place.get("advertise") or self._listen)
        self._advertised_port = int(place.get("advertised_port", 0))
        self._folder = folder
        self._patience = patience
        #: Connections on which something was asked: of these aiohttp closes the idle ones.
        self._known: set[web.RequestHandler] = set()
        self._cutting_off: asyncio.Task[None] | None = None

        @web.middleware
        async def known(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._known.add(request.protocol)
            return await handler(request)

        app = web.Application(middlewares=[known])
        app.router.add_get("/tensors/{id}", self._get, allow_head=False)
        app.router.add_delete("/tensors/{id}", self._drop)
        app.router.add_get("/questions", self._question, allow_head=False)
        self._questioned = Questioned(holder, patience)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)

    async def __aenter__(self) -> Self:
        if not self._listen:
            return self
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._listen, self._port).start()
        except (OSError, OverflowError) as error:
            log.warning(
                "Tensors cannot be served on %s port %d (%s); others get them through the broker. Another place: "
                "--tensor-listen.",
                self._listen,
                self._port,
                getattr(error, "strerror", None) or error,
            )
            return self
        self._cutting_off = asyncio.create_task(self._cut_off_silent())
        host = f"[{self._advertise}]" if ":" in self._advertise else self._advertise
        self._holder.address = f"http://{host}:{self._advertised_port or self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._holder.address = ""
        if self._cutting_off is not None:
            self._cutting_off.cancel()
        self._questioned.close()
        await self._runner.cleanup()

    async def _cut_off_silent(self) -> None:
        """Who connects and asks nothing, or never comes to the end of it, would keep a descriptor of this process
        for ever: aiohttp waits for a first request without end."""
        server = self._runner.server
        assert server is not None
        silent: set[web.RequestHandler] = set()
        while True:
            await asyncio.sleep(self._patience)
            connected = set(server.connections)
            self._known &= connected
            for each in silent & (connected - self._known):
                if each.transport is not None:
                    each.transport.abort()
            silent = connected - self._known

    async def _get(self, request: web.Request) -> web.StreamResponse:
        try:
            start, stop = (_number(request, name) for name in ("start", "stop"))
            held, tensor = self._holder.opened(request.match_info["id"], _token(request), start, stop)
            # A reader that takes for ever would keep what was released long ago.
            async with asyncio.timeout(seconds_for(tensor.nbytes, self._patience)):
                if "ring" in request.query:
                    return await share(request, held, tensor, self._folder, self._patience)
                return await send(request, held, tensor, self._patience)
        except Refused as error:
            return _refusal(error.status, error)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("The reader is too slow.") from None

    async def _drop(self, request: web.Request) -> web.StreamResponse:
        try:
            self._holder.tensors.open(_token(request), request.match_info["id"])
        except Refused as error:
            return _refusal(error.status, error)
        self._holder.tensors.drop(request.match_info["id"])
        return web.Response(status=204)

    async def _question(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._questioned.serve(request, _token(request))
        except Refused as error:
            return _refusal(error.status, error)


def _token(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _number(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Refused(416, f"{name} is to be a number of rows.")
    return int(text)


def _refusal(status: int, error: ComfyDistError) -> web.Response:
    return web.json_response({"error": str(error)}, status=status)
