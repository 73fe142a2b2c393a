"""The websocket: what happens to this client's prompts, as it happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp

from comfy_dist.client.server import Server

#: Seconds between attempts to connect again.
RECONNECT_SECONDS = 1.0
#: Seconds that a client waits for its first connection before it goes on without.
FIRST_CONNECTION_SECONDS = 5.0

#: After these a prompt's history is there, or about to be.
_LAST = frozenset({"execution_success", "execution_error", "execution_interrupted"})

Hear = Callable[[str, str, dict[str, Any]], None]


class Listener:
    """Reconnects for ever; what is missed meanwhile is found in the history, which is the truth anyway."""

    def __init__(self, server: Server, client_id: str, hear: Hear) -> None:
        self._server = server
        self._client_id = client_id
        self._hear = hear
        self.connected = False
        #: Set when there is reason to look at the server: something ended, the queue moved, the socket was lost.
        self.news = asyncio.Event()
        self.tried = asyncio.Event()
        #: Prompts whose end was told.
        self.ended: set[str] = set()
        self.queue_moved = False

    async def listen(self) -> None:
        while True:
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                try:
                    async with self._server.websocket(self._client_id) as socket:
                        self.connected = True
                        self.tried.set()
                        self._look()
                        async for message in socket:
                            if message.type is aiohttp.WSMsgType.TEXT:
                                self._take(message.data)
                finally:
                    self.connected = False
                    self.tried.set()
                    self.news.set()
            await asyncio.sleep(RECONNECT_SECONDS)

    def _look(self) -> None:
        self.queue_moved = True
        self.news.set()

    def _take(self, text: str) -> None:
        try:
            message = json.loads(text)
            event, data = message["type"], message["data"]
        except (ValueError, KeyError, TypeError):
            return  # a custom node's own idea of a message
        if not isinstance(event, str) or not isinstance(data, dict):
            return
        if event == "status":
            self._look()
        prompt_id = data.get("prompt_id")
        if not isinstance(prompt_id, str):
            return
        # Stock ComfyUI writes the history between these two: looking after either is early enough.
        if event in _LAST or (event == "executing" and data.get("node") is None):
            self.ended.add(prompt_id)
            self.news.set()
        self._hear(prompt_id, event, data)


@asynccontextmanager
async def listening(server: Server, client_id: str, hear: Hear) -> AsyncIterator[Listener]:
    """Listen while the body runs, which starts when the first connection stands or has failed."""
    listener = Listener(server, client_id, hear)
    task = asyncio.create_task(listener.listen())
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(listener.tried.wait(), FIRST_CONNECTION_SECONDS)
        yield listener
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
