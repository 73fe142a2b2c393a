"""Questions between two planes over a websocket that stays until nothing is asked for a while: its two ends.

A request of its own for each question costs several times the processor time at both ends, and ranks ask many.

A question goes `{"id", "token", "question"}`, and is answered `{"id", "answer"}` or `{"id", "error": sentence,
"status"}`, in any order. To open the websocket takes a token too, so that nothing is read of strangers.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import weakref
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web

from comfy_dist.errors import text_of
from comfy_dist.tensors.errors import Declined, NotAnswered, Refused, WayFailed
from comfy_dist.tensors.holding import Holder
from comfy_dist.tensors.questions import MAX_BYTES, answered
from comfy_dist.tensors.ways import host_and_port

#: Seconds for the other end to accept it: nodes may hold Python there.
OPEN_SECONDS = 60.0
#: Seconds without a question after which the asker closes it; who is asked waits longer, see `patience`.
IDLE_SECONDS = 15.0
#: Questions of one asker that are being answered at once; it is not read further meanwhile.
MOST_AT_ONCE = 256

_TOO_LARGE = f"A question and its answer have at most {MAX_BYTES} bytes each."


class Questioned:
    """Of a server: it answers whoever has a token."""

    def __init__(self, holder: Holder, patience: float) -> None:
        """`patience`: seconds without a whole question, and without one that is being answered, after which the
        asker is cut off."""
        self._holder = holder
        self._patience = patience
        self._transports: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self._answering: set[asyncio.Task[None]] = set()

    async def serve(self, request: web.Request, token: str) -> web.StreamResponse:
        """Raises Refused for who has no token, before anything is read."""
        try:
            self._holder.handlers.open(token)
        except Refused as error:
            # What was released is said to each question.
            if error.status != 410:
                raise
        socket = web.WebSocketResponse(max_msg_size=MAX_BYTES)
        if not socket.can_prepare(request).ok:
            raise Refused(400, "Questions are asked over a websocket.")
        await socket.prepare(request)
        if (transport := request.transport) is not None:
            self._transports.add(transport)
            await _Asker(socket, transport, self._holder, self._patience, self._answering).run()
        return socket

    def close(self) -> None:
        """Cut all off, and answer nobody any more."""
        for transport in tuple(self._transports):
            transport.abort()
        for task in self._answering:
            task.cancel()


class _Asker:
    """One websocket, at who is asked."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport,
        holder: Holder,
        patience: float,
        answering: set[asyncio.Task[None]],
    ) -> None:
        """`answering`: who answers, of all askers."""
        self._socket = socket
        self._transport = transport
        self._holder = holder
        self._patience = patience
        self._answering = answering
        self._room = asyncio.Semaphore(MOST_AT_ONCE)
        #: Questions that are being answered.
        self._under_way = 0
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._silence = self._loop.call_later(patience, self._look)

    async def run(self) -> None:
        """Until it has gone, or was cut off."""
        try:
            async for message in self._socket:
                self._heard = self._loop.time()
                if message.type is not WSMsgType.TEXT or not await self._take(message.data):
                    self._transport.abort()
                    return
        finally:
            self._silence.cancel()

    def _look(self) -> None:
        """Cut off who says nothing, or never comes to the end of what it says."""
        left = self._patience - (self._loop.time() - self._heard)
        if left <= 0 and not self._under_way:
            self._transport.abort()
        else:
            self._silence = self._loop.call_later(max(left, self._patience / 2), self._look)

    async def _take(self, text: str) -> bool:
        """False: it is no question, and who asks so is not heard any further."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return False
        match found:
            case {"id": int(number), "token": str(token), "question": question}:
                await self._room.acquire()
                # Not cancelled with the connection: what was asked may have begun to have an effect.
                self._under_way += 1
                task = asyncio.create_task(self._answer(number, token, question))
                self._answering.add(task)
                task.add_done_callback(self._answered)
                return True
        return False

    async def _answer(self, number: int, token: str, question: Any) -> None:
        try:
            text = json.dumps({"id": number, **await answered(self._holder, token, question)})
            if len(text) > MAX_BYTES:
                raise Refused(413, _TOO_LARGE)
        except Refused as error:
            text = json.dumps({"id": number, "error": str(error), "status": error.status})
        except Exception as error:  # noqa: BLE001 - an answer that is no JSON: who asked is to learn of it
            text = json.dumps({"id": number, "error": f"{type(error).__name__}: {text_of(error)}", "status": 500})
        # Who has gone asks again if it still wants to know.
        with contextlib.suppress(OSError, RuntimeError):
            if not self._socket.closed:
                await self._socket.send_str(text)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._room.release()
        self._answering.discard(task)
        self._under_way -= 1
        # What it answers has time to get there.
        self._heard = self._loop.time()


class QuestionSockets:
    """Of an asker: one websocket for each address."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._lines: dict[str, asyncio.Task[_Line]] = {}

    async def ask(self, address: str, token: str, question: Any) -> Any:
        """What is answered, {"answer"} or {"error"}. Raises WayFailed if it cannot have been heard, Refused with
        403, Declined for what is too large to be asked, and NotAnswered."""
        text = json.dumps({"token": token, "question": question})
        if len(text) + 32 > MAX_BYTES:
            raise Declined(_TOO_LARGE)
        line = await self._line(address, token)
        found = await line.ask(text)
        if isinstance(found, dict) and found.get("status") == 403:
            raise Refused(403, text_of(found.get("error")))
        return found

    async def close(self) -> None:
        lines, self._lines = self._lines, {}
        for opening in lines.values():
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                await opening.result().close()
            opening.cancel()

    async def _line(self, address: str, token: str) -> _Line:
        while (opening := self._lines.get(address)) is not None and not (opening.done() and not _is_open(opening)):
            # It is opened with another's token: that one may be no good.
            with contextlib.suppress(Refused):
                return await asyncio.shield(opening)
        self._lines = {each: kept for each, kept in self._lines.items() if not kept.done() or _is_open(kept)}
        opening = self._lines[address] = asyncio.create_task(self._open(address, token))
        opening.add_done_callback(_retrieved)
        # Who opens it may be cancelled while others wait for it too.
        return await asyncio.shield(opening)

    async def _open(self, address: str, token: str) -> _Line:
        host, port = host_and_port(address)
        url = f"http://[{host}]:{port}/questions" if ":" in host else f"http://{host}:{port}/questions"
        headers = {"Authorization": f"Bearer {token}"}
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                socket = await self._session.ws_connect(url, headers=headers, max_msg_size=MAX_BYTES)
        except aiohttp.WSServerHandshakeError as error:
            kind = error.headers.get("Content-Type", "") if error.headers is not None else ""
            if error.status == 403 and kind.startswith("application/json"):
                raise Refused(
                    403, "This token does not open it: it is another's, was changed, or has ended."
                ) from None
            raise WayFailed(f"{address} is not the plane of a worker (status {error.status}).") from None
        except TimeoutError:
            raise NotAnswered(f"{address} has opened no websocket within {OPEN_SECONDS:g} s.") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise WayFailed(f"{address} cannot be reached ({text_of(error)}).") from None
        return _Line(address, socket)


class _Line:
    """One websocket, at the asker."""

    def __init__(self, address: str, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._address = address
        self._socket = socket
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._loop = asyncio.get_running_loop()
        self._open = True
        #: When something was asked last, and answered.
        self._asked = self._answered = self._loop.time()
        self._idle = self._loop.call_later(IDLE_SECONDS, self._look)
        self._reading = asyncio.create_task(self._read())

    @property
    def is_open(self) -> bool:
        """Whether the other end is likely to hear what is asked: it waits a while longer than this one."""
        return self._open and (bool(self._answers) or self._loop.time() - self._last < IDLE_SECONDS)

    @property
    def _last(self) -> float:
        return max(self._asked, self._answered)

    async def ask(self, text: str) -> Any:
        """`text`: the question as a JSON object, which gets its id here. Raises NotAnswered."""
        number, asked = next(self._ids), self._loop.time()
        self._asked = asked
        answer = self._answers[number] = self._loop.create_future()
        try:
            await self._socket.send_str(f'{{"id": {number}, {text[1:]}')
            return await answer
        except (aiohttp.ClientError, OSError) as error:
            raise self._lost(error) from None
        except asyncio.CancelledError:
            # Who waits no longer may do so as nobody is there any more: the next one is not to find that out too.
            self._open = self._open and self._answered > asked
            raise
        finally:
            self._answers.pop(number, None)
            if answer.done() and not answer.cancelled():
                answer.exception()

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    def _look(self) -> None:
        idle = self._loop.time() - self._last
        if not self._answers and (idle >= IDLE_SECONDS or not self._open):
            self._open = False
            self._reading.cancel()
        else:
            self._idle = self._loop.call_later(max(IDLE_SECONDS - idle, 1.0), self._look)

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    self._take(message.data)
        finally:
            self._open = False
            self._idle.cancel()
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(self._lost(None))
            await self._socket.close()

    def _take(self, text: str) -> None:
        """What is no answer is not for anybody."""
        self._answered = self._loop.time()
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return
        number = found.get("id") if isinstance(found, dict) else None
        answer = self._answers.get(number) if isinstance(number, int) else None
        if answer is not None and not answer.done():
            answer.set_result(found)

    def _lost(self, error: Exception | None) -> NotAnswered:
        why = f" ({text_of(error)})" if error is not None else ""
        return NotAnswered(f"{self._address} broke off before it answered{why}.")


def _is_open(opening: asyncio.Task[_Line]) -> bool:
    return not opening.cancelled() and opening.exception() is None and opening.result().is_open


def _retrieved(opening: asyncio.Task[_Line]) -> None:
    """Its error, which nobody may be waiting for any more, is no news to asyncio."""
    if not opening.cancelled():
        opening.exception()
