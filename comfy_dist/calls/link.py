"""The link of an engine's process to its worker: a websocket on loopback, opened when it is first needed.

Questions go `{"id", "op", …}`, answered `{"id", "result"}` or `{"id", "error": sentence}`; without an id nothing
is answered. The worker pushes `{"push": what, …}`, and asks `{"push": "ask", "id", "body"}`, which is answered
`{"answer": id, "result"}` or `{"answer": id, "error": sentence}`. worker/link.py is the other end.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

import aiohttp

from comfy_dist.calls.errors import LinkLost, LinkRefused
from comfy_dist.errors import ComfyDistError

log = logging.getLogger(__name__)

#: Environment of an engine's process: where its worker listens, and the token of its lane.
ADDRESS_VARIABLE = "COMFY_DIST_LINK"
TOKEN_VARIABLE = "COMFY_DIST_LINK_TOKEN"  # noqa: S105 - its name

#: Bytes of one message: a prompt, or a piece of a tensor that is relayed.
MAX_MESSAGE = 64 * 2**20
CONNECT_SECONDS = 10.0
#: Seconds for an answer that waits for nobody but the worker.
ANSWER_SECONDS = 30.0
#: Seconds between pings. Nodes may hold Python for long, so it says little before that.
HEARTBEAT_SECONDS = 120.0


async def answer_of(asked: Awaitable[Any]) -> dict[str, Any]:
    """`{"result"}` or `{"error": sentence}`, whatever `asked` raises."""
    try:
        return {"result": await asked}
    except ComfyDistError as error:
        return {"error": str(error)}
    except Exception as error:
        log.exception("A question on the link could not be answered")
        return {"error": f"It could not be answered: {type(error).__name__}: {error}"}


class Listener(Protocol):
    """What the link hands on, on its loop."""

    def pushed(self, message: dict[str, Any]) -> None:
        """The worker says something."""

    async def asked(self, body: Any) -> Any:
        """The worker asks for another participant. A ComfyDistError is its answer too."""

    def lost(self) -> None:
        """The connection has ended; what was to be pushed may never come."""


class Link:
    """The process's end. Everything is called on one loop."""

    def __init__(self, address: str, token: str, listener: Listener) -> None:
        self._address = address
        self._token = token
        self._listener = listener
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._connecting = asyncio.Lock()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        #: Done when the connection was made, or could not be.
        self._opened: asyncio.Future[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    def of(cls, environment: Mapping[str, str], listener: Listener) -> Link | None:
        """That of this process; None where no worker started it."""
        address, token = environment.get(ADDRESS_VARIABLE), environment.get(TOKEN_VARIABLE)
        return cls(address, token, listener) if address and token else None

    @property
    def connected(self) -> bool:
        return self._socket is not None

    async def ask(self, op: str, *, timeout: float | None = ANSWER_SECONDS, **arguments: Any) -> Any:
        """The worker's answer. Raises LinkRefused with its sentence, or LinkLost.

        Without a timeout it waits as long as the connection lasts.
        """
        socket = await self._connected()
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                await self._send(socket, {"id": number, "op": op, **arguments})
                return await answer
        except TimeoutError:
            raise LinkLost(f"The worker has not answered {op!r} within {timeout:g} s.") from None
        finally:
            self._answers.pop(number, None)

    async def tell(self, op: str, **arguments: Any) -> None:
        """Say something that is not answered. Raises LinkLost, LinkRefused."""
        socket = await self._connected()
        async with asyncio.timeout(ANSWER_SECONDS):
            await self._send(socket, {"op": op, **arguments})

    async def close(self) -> None:
        """For good: what is still to be said is not."""
        self._closed = True
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _connected(self) -> aiohttp.ClientWebSocketResponse:
        async with self._connecting:
            if self._closed:
                raise LinkLost("The link to the worker is closed, as this process ends.")
            if self._socket is None:
                if self._opened is None or self._opened.done():
                    self._opened = asyncio.get_running_loop().create_future()
                    self._opened.add_done_callback(_retrieved)
                    self._reading = asyncio.create_task(self._read(self._opened), name="link")
                # Who asked may be interrupted meanwhile: the next one finds it made.
                await asyncio.shield(self._opened)
            if self._socket is None:
                raise LinkLost("The worker closed the link to this process.")
            return self._socket

    async def _read(self, opened: asyncio.Future[None]) -> None:
        """Own the connection, from its making to its end."""
        asked: set[asyncio.Task[None]] = set()
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CONNECT_SECONDS)) as http,
                http.ws_connect(
                    self._address, headers=headers, max_msg_size=MAX_MESSAGE, heartbeat=HEARTBEAT_SECONDS
                ) as socket,
            ):
                self._socket = socket
                opened.set_result(None)
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        self._take(socket, json.loads(message.data), asked)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if not opened.done():
                opened.set_exception(LinkLost(f"The worker's link at {self._address} does not open: {error}."))
        finally:
            self._socket = None
            if not opened.done():
                opened.cancel()
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(LinkLost("The connection to the worker ended before it answered."))
            self._listener.lost()

    def _take(
        self, socket: aiohttp.ClientWebSocketResponse, message: dict[str, Any], asked: set[asyncio.Task[None]]
    ) -> None:
        if message.get("push") == "ask":
            task = asyncio.create_task(self._answer(socket, message["id"], message["body"]))
            asked.add(task)
            task.add_done_callback(asked.discard)
        elif "push" in message:
            self._listener.pushed(message)
        else:
            answer = self._answers.get(message["id"])
            if answer is None or answer.done():
                return
            if "error" in message:
                answer.set_exception(LinkRefused(message["error"]))
            else:
                answer.set_result(message.get("result"))

    async def _answer(self, socket: aiohttp.ClientWebSocketResponse, number: int, body: Any) -> None:
        answer = await answer_of(self._listener.asked(body))
        try:
            await self._send(socket, {"answer": number, **answer})
        except LinkLost as error:
            log.debug("%s", error)

    async def _send(self, socket: aiohttp.ClientWebSocketResponse, message: dict[str, Any]) -> None:
        text = json.dumps(message)
        if len(text) > MAX_MESSAGE:
            # The worker would end the connection for it.
            raise LinkRefused(f"{len(text):,} bytes are too many for a message to the worker ({MAX_MESSAGE:,}).")
        try:
            await socket.send_str(text)
        except (aiohttp.ClientError, OSError) as error:
            raise LinkLost(f"The connection to the worker ended: {error}.") from error


def _retrieved(opened: asyncio.Future[None]) -> None:
    """Its error, which nobody may be waiting for any more, is no news to asyncio."""
    if not opened.cancelled():
        opened.exception()
