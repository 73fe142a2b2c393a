"""ComfyUI's websocket, held open: what it says is handed on, and when it was not heard, that is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

import aiohttp
from pydantic_core import from_json

from comfy_dist.engine.comfyui.server import Server, ServerFault, Unreachable, in_words

_log = logging.getLogger(__name__)

#: A ComfyUI that loads a model may be silent for a while, so this is not short.
HEARTBEAT_SECONDS = 30.0
HANDSHAKE_SECONDS = 20.0
RETRY_SECONDS = 0.5
#: The largest message: previews are small, what a node shows as text may not be.
MAX_MESSAGE = 128 * 2**20
#: Begins the client ids of all workers, so that they know each other's prompts.
WORKERS = "comfy_dist-"
#: Must be the first message, else previews come without their node.
_FLAGS = '{"type": "feature_flags", "data": {"supports_preview_metadata": true}}'


class Hearer(Protocol):
    """Who is told; called on the loop, in the order of arrival."""

    def on_event(self, event: str, data: dict[str, Any]) -> None: ...

    def on_binary(self, body: bytes) -> None: ...

    def on_gap(self) -> None:
        """Something may have been missed."""
        ...


class Listener:
    """One client's websocket. `patience`: seconds without a connection after which `gone` is called."""

    def __init__(self, server: Server, hearer: Hearer, *, patience: float, gone: Callable[[str], None]) -> None:
        #: Who listens; events of a prompt go to the client that submitted it.
        self.client_id = _new_id()
        self._server = server
        self._hearer = hearer
        self._patience = patience
        self._gone = gone
        self._task: asyncio.Task[None] | None = None
        self._reused = False

    async def open(self) -> None:
        """Connect, and listen until close(). Raises ServerFault."""
        socket = await self._connect()
        self._task = asyncio.create_task(self._listen(socket))

    async def renew(self) -> None:
        """Before a prompt: listen under a new id where this one was used by two connections.

        ComfyUI forgets the newer one when at last it finds the older one dead. Raises ServerFault.
        """
        if self._reused:
            await self.close()
            self.client_id, self._reused = _new_id(), False
            await self.open()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _connect(self) -> aiohttp.ClientWebSocketResponse:
        address = self._server.address
        url = address.at("ws").with_query(clientId=self.client_id)
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                socket = await self._server.session.ws_connect(
                    url, heartbeat=HEARTBEAT_SECONDS, max_msg_size=MAX_MESSAGE
                )
                await socket.send_str(_FLAGS)
                return socket
        except aiohttp.WSServerHandshakeError as error:
            raise ServerFault(f"ComfyUI at {address} opens no websocket: it answered {error.status}.") from None
        except TimeoutError:
            raise Unreachable(
                f"ComfyUI at {address} did not open its websocket within {HANDSHAKE_SECONDS:g} s."
            ) from None
        except aiohttp.ClientError as error:
            raise Unreachable(f"ComfyUI at {address} opens no websocket: {in_words(error)}.") from None

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            opened = time.monotonic()
            try:
                await self._read(socket)
            finally:
                await socket.close()
            _log.warning("The websocket of ComfyUI at %s was closed; it is opened again.", self._server.address)
            if time.monotonic() - opened < RETRY_SECONDS:
                await asyncio.sleep(RETRY_SECONDS)
            again = await self._reconnect()
            if again is None:
                return
            socket = again
            self._hearer.on_gap()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                self._hearer.on_binary(message.data)
            elif message.type is aiohttp.WSMsgType.TEXT:
                # What is no event of ComfyUI's is not for us.
                with contextlib.suppress(ValueError):
                    found = from_json(message.data)
                    if isinstance(found, dict) and isinstance(found.get("data"), dict):
                        self._hearer.on_event(str(found.get("type")), found["data"])

    async def _reconnect(self) -> aiohttp.ClientWebSocketResponse | None:
        end = time.monotonic() + self._patience
        while True:
            try:
                socket = await self._connect()
                self._reused = True
                return socket
            except ServerFault as fault:
                if time.monotonic() > end:
                    self._gone(str(fault))
                    return None
            await asyncio.sleep(RETRY_SECONDS)


def _new_id() -> str:
    return f"{WORKERS}{uuid.uuid4().hex}"
