"""The two-node prompt, one after another and many at once, through HTTP and websocket."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

_colors = itertools.count()


def prompt() -> dict[str, Any]:
    """EmptyImage → PreviewImage, 64², never cached."""
    inputs = {"width": 64, "height": 64, "batch_size": 1, "color": next(_colors)}
    return {
        "1": {"class_type": "EmptyImage", "inputs": inputs},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }


class Client:
    def __init__(
        self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse, address: str
    ) -> None:
        self._session = session
        self._socket = socket
        self._address = address
        self.id = ""

    async def post(self, what: dict[str, Any] | None = None, **extra_data: Any) -> str:
        """Its id; without a prompt of one's own, the one with two nodes."""
        body = {"prompt": what or prompt(), "client_id": self.id, "extra_data": extra_data}
        async with self._session.post(f"{self._address}/prompt", json=body) as response:
            answer = await response.json()
            assert response.status == 200, answer
            return str(answer["prompt_id"])

    async def ended(self) -> str:
        """The id of the next prompt whose last message comes."""
        async for message in self._socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                event = json.loads(message.data)
                if event["type"] == "executing" and event["data"]["node"] is None:
                    return str(event["data"]["prompt_id"])
        raise RuntimeError("The websocket was closed.")

    async def stay(self) -> None:
        """Answer the server's pings while others are measured, until cancelled."""
        async for _ in self._socket:
            pass

    async def one_after_another(self, count: int) -> list[float]:
        """Milliseconds from the post to the websocket's last message, by prompt."""
        times = []
        for _ in range(count):
            began = time.perf_counter()
            posted = await self.post()
            while await self.ended() != posted:
                pass
            times.append((time.perf_counter() - began) * 1000)
        return times

    async def at_once(self, count: int) -> tuple[float, float]:
        """Accepted and finished prompts per second."""
        began = time.perf_counter()
        posting = asyncio.gather(*(self.post() for _ in range(count)))
        accepted = 0.0

        async def note() -> None:
            nonlocal accepted
            await posting
            accepted = count / (time.perf_counter() - began)

        noting = asyncio.create_task(note())
        left = count
        while left:
            await self.ended()
            left -= 1
        finished = count / (time.perf_counter() - began)
        await noting
        return accepted, finished


@asynccontextmanager
async def turn_of(one: Client, clients: Iterable[Client]) -> AsyncIterator[Client]:
    """It is measured; the others only stay."""
    staying = [asyncio.create_task(other.stay()) for other in clients if other is not one]
    try:
        yield one
    finally:
        for task in staying:
            task.cancel()
        await asyncio.gather(*staying, return_exceptions=True)


@asynccontextmanager
async def client(address: str) -> AsyncIterator[Client]:
    id_ = uuid.uuid4().hex
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{address}/ws?clientId={id_}") as socket:
        made = Client(session, socket, address)
        made.id = id_
        yield made
