"""Small questions between processes reach whoever was exposed for them, and only with its token."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import Peer
from comfy_dist.tensors import question_sockets
from comfy_dist.tensors.errors import Declined, NotAnswered
from comfy_dist.tensors.plane import Plane
from comfy_dist.tensors.question_sockets import Questioned
from tests.support.patience import PATIENCE
from tests.tensors.planes import Wire, a_plane


class Sentence(ComfyDistError):
    pass


async def handler(body: dict[str, Any]) -> dict[str, Any]:
    match body:
        case {"raise": "ours"}:
            raise Sentence("The chunk is another's.")
        case {"raise": _}:
            raise KeyError("chunk")
        case {"wait": _}:
            await asyncio.Event().wait()
    return {"heard": body}


@pytest.fixture(scope="module", params=["http", "relay", "unreachable address"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[Plane, Plane]]:
    wire = Wire()
    with a_plane(wire, "far/0", served=request.param != "relay") as holder, a_plane(wire, "near/0") as reader:
        if request.param == "unreachable address":
            holder._holder.address = "http://127.0.0.1:1"
        yield holder, reader


async def test_a_question_is_answered(ends: tuple[Plane, Plane]) -> None:
    holder, asker = ends
    peer = holder.expose(handler)
    bodies = [{"text": "é\n☃", "number": i, "deep": [{"x": None}]} for i in range(20)]
    answers = await asyncio.gather(*(asker.ask(peer, body) for body in bodies))
    assert answers == [{"heard": body} for body in bodies]


async def test_a_handler_that_raises_answers_a_sentence(ends: tuple[Plane, Plane]) -> None:
    holder, asker = ends
    peer = holder.expose(handler)
    with pytest.raises(NotAnswered, match=r"^The chunk is another's\.$"):
        await asker.ask(peer, {"raise": "ours"})
    with pytest.raises(NotAnswered, match="KeyError"):
        await asker.ask(peer, {"raise": "theirs"})


async def test_who_does_not_answer_is_waited_for_no_longer_than_said(ends: tuple[Plane, Plane]) -> None:
    holder, asker = ends
    with pytest.raises(NotAnswered, match=r"within 0\.2 s"):
        await asker.ask(holder.expose(handler), {"wait": 1}, timeout=0.2)


async def test_without_the_token_nobody_is_asked(ends: tuple[Plane, Plane]) -> None:
    holder, asker = ends
    peer = holder.expose(handler, "session 1")
    with pytest.raises(NotAnswered, match="token"):
        await asker.ask(peer.model_copy(update={"token": peer.token[:-1] + "!"}), {})
    holder.release("session 1")
    with pytest.raises(NotAnswered, match="released"):
        await asker.ask(peer, {})


async def test_an_address_that_is_anothers_here_does_not_hide_who_is_asked() -> None:
    wire = Wire()
    with a_plane(wire, "far/0") as holder, a_plane(wire, "near/0") as asker, a_plane() as neighbour:
        peer = holder.expose(handler).model_copy(update={"address": neighbour._holder.address})
        assert await asker.ask(peer, {"x": 1}) == {"heard": {"x": 1}}
        with pytest.raises(Declined, match="token"):
            await asker.ask(peer.model_copy(update={"via": ""}), {})


@pytest.mark.parametrize("address", ["{}/api?x=", "{}#", "http://user:word@{host}/x"])
async def test_an_address_leads_to_nothing_but_questions(address: str) -> None:
    with a_plane() as holder, a_plane() as asker:
        peer = holder.expose(handler)
        there = address.format(peer.address, host=peer.address.removeprefix("http://"))
        assert await asker.ask(peer.model_copy(update={"address": there}), {}) == {"heard": {}}
        for nowhere in ("file:///etc/passwd", "https://127.0.0.1:1", "http://127.0.0.1:port", "127.0.0.1"):
            with pytest.raises(NotAnswered, match="no address"):
                await asker.ask(peer.model_copy(update={"address": nowhere}), {})


async def said(peer: Peer, *messages: str, **more: Any) -> str:
    """What is answered to the last of these messages on a websocket of one's own; "" where it is cut off."""
    async with aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {peer.token}"}
        async with session.ws_connect(f"{peer.address}/questions", headers=headers, **more) as socket:
            for message in messages:
                await socket.send_str(message)
            answer = await socket.receive(PATIENCE)
            return answer.data if answer.type is aiohttp.WSMsgType.TEXT else ""


async def test_what_is_no_question_is_heard_no_further() -> None:
    heard: list[Any] = []

    async def noted(body: dict[str, Any]) -> dict[str, Any]:
        heard.append(body)
        return body

    with a_plane() as holder:
        first = holder.expose(noted)
        after = {"id": 1, "token": first.token, "question": {}}
        assert await said(first, "7", json.dumps(after)) == ""
        assert not heard
        peer = holder.expose(handler)
        question = {"id": 1, "token": peer.token, "question": {}}
        assert json.loads(await said(peer, json.dumps(question))) == {"id": 1, "answer": {"heard": {}}}
        for wrong in ("{", "[" * 100_000, "7", json.dumps({"id": 1}), json.dumps(question | {"id": "one"})):
            assert await said(peer, wrong, json.dumps(question)) == "", wrong[:20]
        for wrong, status in (({"question": 7}, 400), ({"token": "x"}, 403), ({"question": {"raise": 1}}, 500)):
            assert json.loads(await said(peer, json.dumps(question | wrong)))["status"] == status
        answers = await asyncio.gather(*(holder.ask(peer, {"x": i}) for i in range(3)))
        assert len(answers) == 3, "nobody else was harmed"


async def test_who_says_nothing_or_never_comes_to_an_end_is_cut_off() -> None:
    with a_plane(patience=0.2) as holder:
        peer = holder.expose(handler)
        assert await said(peer) == ""
        address = urlsplit(peer.address)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = (
            f"GET /questions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {peer.token}\r\nUpgrade: websocket\r\n"
        )
        writer.write(
            head.encode() + b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            # A masked text of 100 bytes, of which one comes.
            b"\x81\xe4\0\0\0\0{"
        )
        async with asyncio.timeout(PATIENCE):
            assert (await reader.read(12)).endswith(b"101")
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()


async def test_who_waits_for_an_answer_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long ago it asked."""
    heard, answers = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    looked: list[bool] = []
    look = question_sockets._Asker._look

    async def slow(body: dict[str, Any]) -> dict[str, Any]:
        loop.call_soon_threadsafe(heard.set)
        await answers.wait()
        return {}

    def noted(self: Any) -> None:
        looked.append(self._under_way > 0)
        self._heard -= 1000.0
        look(self)

    monkeypatch.setattr(question_sockets._Asker, "_look", noted)
    with a_plane(patience=0.1) as holder, a_plane() as asker:
        asking = asyncio.create_task(asker.ask(holder.expose(slow), {}, PATIENCE))
        async with asyncio.timeout(PATIENCE):
            await heard.wait()
            while True not in looked:
                await asyncio.sleep(0.01)
        holder._thread.loop.call_soon_threadsafe(answers.set)
        assert await asking == {}


async def test_a_stranger_has_nothing_read() -> None:
    with a_plane() as holder:
        peer = holder.expose(handler)
        for stranger in (peer.model_copy(update={"token": "x"}), peer.model_copy(update={"token": ""})):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await said(stranger, "{}")
            assert refused.value.status == 403
        headers = {"Authorization": f"Bearer {peer.token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(f"{peer.address}/questions") as response,
        ):
            assert response.status == 400
            assert "websocket" in (await response.json())["error"]


async def test_many_questions_go_over_one_websocket(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed when nothing was asked for a while, and opened again."""
    opened: list[str] = []
    serve = Questioned.serve

    async def noted(self: Questioned, request: Any, token: str) -> Any:
        opened.append(token)
        return await serve(self, request, token)

    monkeypatch.setattr(Questioned, "serve", noted)
    with a_plane() as holder, a_plane() as asker:
        peers = [holder.expose(handler) for _ in range(2)]
        for _ in range(3):
            await asyncio.gather(*(asker.ask(peer, {}) for peer in peers))
        assert len(opened) == 1
        (line,) = [opening.result() for opening in asker._asker._sockets._lines.values()]
        line._asked = line._answered = line._asked - question_sockets.IDLE_SECONDS
        line._loop.call_soon_threadsafe(line._look)
        async with asyncio.timeout(PATIENCE):
            while not line._reading.done():
                await asyncio.sleep(0.01)
        assert await asker.ask(peers[0], {}) == {"heard": {}}
        assert len(opened) == 2


async def test_a_token_that_is_no_good_spoils_nobody_elses_question() -> None:
    """Also where all are asked at once, and the wrong one first."""
    with a_plane() as holder, a_plane() as asker:
        peer = holder.expose(handler)
        forged = peer.model_copy(update={"token": "forged"})
        wrong, *right = await asyncio.gather(
            asker.ask(forged, {}), *(asker.ask(peer, {"x": i}) for i in range(9)), return_exceptions=True
        )
        assert isinstance(wrong, Declined)
        assert right == [{"heard": {"x": i}} for i in range(9)]
        assert len(holder._server._questioned._transports) == 1


async def test_who_does_not_answer_at_all_is_asked_anew_on_another_websocket() -> None:
    """The first may lead nowhere any more, of which nobody is told."""
    sockets = 0

    async def first_is_dead(request: web.Request) -> web.StreamResponse:
        nonlocal sockets
        sockets += 1
        mute = sockets == 1
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if not mute:
                await socket.send_str(
                    json.dumps({"id": json.loads(message.data)["id"], "answer": {"socket": sockets}})
                )
        return socket

    app = web.Application()
    app.router.add_get("/questions", first_is_dead)
    async with TestServer(app, host="127.0.0.1") as server, AsyncExitStack() as stack:
        holder, asker = (stack.enter_context(a_plane()) for _ in range(2))
        peer = holder.expose(handler).model_copy(update={"address": f"http://127.0.0.1:{server.port}"})
        with pytest.raises(NotAnswered, match="within"):
            await asker.ask(peer, {}, 0.5)
        assert await asker.ask(peer, {}, PATIENCE) == {"socket": 2}


async def test_an_answer_that_cannot_be_written_is_said() -> None:
    async def odd(body: dict[str, Any]) -> dict[str, Any]:
        return {"what": object()}

    with a_plane() as holder, a_plane() as asker, pytest.raises(Declined, match="TypeError"):
        await asker.ask(holder.expose(odd), {})


async def test_who_ends_while_it_is_asked_has_not_answered() -> None:
    with a_plane() as asker:
        with a_plane() as holder:
            peer = holder.expose(handler)
            asking = asyncio.create_task(asker.ask(peer, {"wait": 1}, PATIENCE))
            await asker.ask(peer, {})
        with pytest.raises(NotAnswered, match="broke off"):
            await asking
        with pytest.raises(NotAnswered, match="cannot be reached"):
            await asker.ask(peer, {})


async def test_what_is_too_large_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question_sockets, "MAX_BYTES", 1000)

    async def long(body: dict[str, Any]) -> dict[str, Any]:
        return {"text": "x" * int(body["length"])}

    with a_plane() as holder, a_plane() as asker:
        peer = holder.expose(long)
        with pytest.raises(Declined, match="at most"):
            await asker.ask(peer, {"length": 1, "more": "x" * 1000})
        with pytest.raises(Declined, match="at most"):
            await asker.ask(peer, {"length": 1000})
        assert await asker.ask(peer, {"length": 1}) == {"text": "x"}


async def test_no_more_are_answered_at_once_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question_sockets, "MOST_AT_ONCE", 2)
    at_once, most = 0, 0

    async def slow(body: dict[str, Any]) -> dict[str, Any]:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.005)
        at_once -= 1
        return body

    with a_plane() as holder, a_plane() as asker:
        peer = holder.expose(slow)
        assert await asyncio.gather(*(asker.ask(peer, {"x": i}) for i in range(9))) == [{"x": i} for i in range(9)]
    assert most == 2


@pytest.mark.parametrize(
    "answers", ["sends elsewhere", "is a web page", "answers nonsense", "closes", "says nothing"]
)
async def test_an_address_of_something_else_leads_nowhere(answers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if answers == "says nothing":
        monkeypatch.setattr(question_sockets, "OPEN_SECONDS", 0.2)
    heard: list[str] = []

    async def other(request: web.Request) -> web.StreamResponse:
        heard.append(request.path)
        if request.path != "/questions" or answers == "is a web page":
            return web.Response(text="hello")
        if answers == "sends elsewhere":
            raise web.HTTPFound("/internal")
        if answers == "says nothing":
            await asyncio.sleep(0.5)
            return web.Response()
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        for nonsense in ("{", "7", '{"id": "1"}', '{"id": 99, "answer": {}}', '{"id": 1, "answer": 7}'):
            if answers == "answers nonsense":
                await socket.send_str(nonsense)
        return socket

    app = web.Application()
    app.router.add_get("/{path:.*}", other)
    async with TestServer(app, host="127.0.0.1") as server, AsyncExitStack() as stack:
        holder, asker = (stack.enter_context(a_plane()) for _ in range(2))
        peer = holder.expose(handler).model_copy(update={"address": f"http://127.0.0.1:{server.port}"})
        with pytest.raises(NotAnswered):
            await asker.ask(peer, {}, PATIENCE)
    assert heard == ["/questions"]


async def test_nobody_there_is_said() -> None:
    with a_plane() as holder, a_plane() as asker:
        peer = holder.expose(handler).model_copy(update={"address": "http://127.0.0.1:1"})
        with pytest.raises(NotAnswered, match=r"127\.0\.0\.1:1 cannot be reached"):
            await asker.ask(peer, {})


async def test_what_is_no_question_is_refused() -> None:
    wire = Wire()
    with a_plane(wire, "far/0") as holder:
        for body in ({}, {"question": {}}, {"tensor": 5}, {"question": [], "token": holder.expose(handler).token}):
            assert (await holder.answer_relayed(body))["status"] in (400, 403)
