"""The worker's end of the links to its engines' processes (calls/link.py is theirs).

One websocket on loopback for each lane, told by its token. What nodes ask goes to the handler; the token says
which lane asks, so a process speaks for no other.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self, TypeAlias

from aiohttp import WSMsgType, web

from comfy_dist.calls.errors import LinkLost, LinkRefused
from comfy_dist.calls.link import ADDRESS_VARIABLE, MAX_MESSAGE, TOKEN_VARIABLE, answer_of

log = logging.getLogger(__name__)

#: (lane, op, arguments) -> the result, as JSON. A ComfyDistError is answered with its sentence. It is cancelled
#: when the process that asked has gone.
Handler: TypeAlias = Callable[[int, str, dict[str, Any]], Awaitable[Any]]

SHUTDOWN_SECONDS = 2.0
#: Messages that wait for a process to read them; one that reads nothing for so long is cut off.
MOST_WAITING = 10_000


class LinkServer:
    """Serves the links while it is entered: `async with LinkServer(handler) as links`."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._tokens: dict[int, str] = {}
        self._links: dict[int, _Connection] = {}
        self._address = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/link", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._address = f"http://127.0.0.1:{self._runner.addresses[0][1]}/link"
        return self

    async def __aexit__(self, *_: object) -> None:
        for link in list(self._links.values()):
            link.cut("The worker ends.")
        if self._runner is not None:
            await self._runner.cleanup()

    def environment(self, lane: int) -> dict[str, str]:
        """What the engine's process of that lane gets in its environment."""
        token = self._tokens.setdefault(lane, secrets.token_urlsafe(32))
        return {ADDRESS_VARIABLE: self._address, TOKEN_VARIABLE: token}

    def forget(self, lane: int) -> None:
        """The lane's process is no more, and whoever has its token has no say."""
        self._tokens.pop(lane, None)
        if (link := self._links.get(lane)) is not None:
            link.cut("Its engine has ended.")

    def push(self, lane: int, message: Mapping[str, Any]) -> bool:
        """Tell that lane's process, in the order of these calls. False where it is not connected: it has asked for
        nothing then, so it waits for nothing."""
        link = self._links.get(lane)
        return link is not None and link.push(message)

    async def ask(self, lane: int, body: Any, timeout: float) -> Any:
        """Hand a question of another participant to that lane's process: its answer.

        Raises LinkRefused with its sentence; LinkLost where it is not connected, ends, or does not answer in time.
        """
        link = self._links.get(lane)
        if link is None:
            raise LinkLost(f"The engine's process of lane {lane} is not connected to its worker.")
        return await link.ask(body, timeout)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode("utf-8", "replace")
        lane = next(
            (lane for lane, token in self._tokens.items() if hmac.compare_digest(token.encode(), given)), None
        )
        if lane is None:
            raise web.HTTPForbidden(text="The link is for the processes that this worker started.\n")
        socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE)
        await socket.prepare(request)
        link = _Connection(lane, socket, request.transport, self._handler)
        if (old := self._links.pop(lane, None)) is not None:
            old.cut("Another process of this lane has connected.")
        self._links[lane] = link
        try:
            await link.run()
        finally:
            if self._links.get(lane) is link:
                del self._links[lane]
        return socket


class _Connection:
    """One process, from its connection to its end."""

    def __init__(
        self,
        lane: int,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        handler: Handler,
    ) -> None:
        self._lane = lane
        self._socket = socket
        self._transport = transport
        self._handler = handler
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._outgoing: asyncio.Queue[str] = asyncio.Queue()

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                writing = tasks.create_task(self._write())
                working: set[asyncio.Task[None]] = set()
                async for message in self._socket:
                    if message.type is WSMsgType.TEXT and not self._take(message.data, tasks, working):
                        break
                for task in (writing, *working):
                    task.cancel()
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(LinkLost(f"The engine's process of lane {self._lane} has ended."))

    def push(self, message: Mapping[str, Any]) -> bool:
        if self._outgoing.qsize() >= MOST_WAITING:
            self.cut(f"Its process has left {MOST_WAITING} messages unread.")
        if self._transport is None or self._transport.is_closing():
            return False
        self._outgoing.put_nowait(json.dumps(message))
        return True

    async def ask(self, body: Any, timeout: float) -> Any:
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            if not self.push({"push": "ask", "id": number, "body": body}):
                raise LinkLost(f"The engine's process of lane {self._lane} has been cut off.")
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise LinkLost(
                f"The engine's process of lane {self._lane} has not answered within {timeout:g} s."
            ) from None
        finally:
            self._answers.pop(number, None)

    def cut(self, why: str) -> None:
        """End the connection, however little the process reads."""
        log.info("The link of lane %d is cut: %s", self._lane, why)
        if self._transport is not None:
            self._transport.abort()

    def _take(self, text: str, tasks: asyncio.TaskGroup, working: set[asyncio.Task[None]]) -> bool:
        """Heed a message. False: it is none, and who sends such is not heard any further."""
        try:
            message = json.loads(text)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            self.cut("What its process says is no message.")
            return False
        if "answer" in message:
            self._settle(message)
            return True
        number, op = message.pop("id", None), message.pop("op", None)
        task = tasks.create_task(self._answer(number, str(op), message))
        working.add(task)
        task.add_done_callback(working.discard)
        return True

    def _settle(self, message: dict[str, Any]) -> None:
        number = message["answer"]
        answer = self._answers.get(number) if isinstance(number, int) else None
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(LinkRefused(str(message["error"])))
        else:
            answer.set_result(message.get("result"))

    async def _answer(self, number: Any, op: str, arguments: dict[str, Any]) -> None:
        answer = await answer_of(self._handler(self._lane, op, arguments))
        if number is not None:
            self.push({"id": number, **answer})

    async def _write(self) -> None:
        try:
            while True:
                await self._socket.send_str(await self._outgoing.get())
        except OSError as error:
            # The reading end sees it as well, and ends the connection.
            log.debug("Lane %d: %s", self._lane, error)
