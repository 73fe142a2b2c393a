"""Small questions between processes reach whoever was exposed for them, and only with its token."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import Peer
from comfy_dist.tensors.errors import Declined, NotAnswered
from comfy_dist.tensors.plane import Plane
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


def said(peer: Peer, body: bytes, length: int) -> bytes:
    """The beginning of the answer to a request that may be longer than what is sent of it."""
    port = int(peer.address.rpartition(":")[2])
    head = f"POST /questions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {peer.token}\r\nContent-Length: {length}"
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        return connection.recv(100)


async def test_what_is_no_question_is_answered_soon() -> None:
    with a_plane() as holder, a_plane(patience=0.3) as impatient:
        peer = holder.expose(handler)
        for who, body, length, status in (
            (peer, b"{}", 2, b"200"),
            (peer, b"{", 1, b"400"),
            (peer, b"[" * 100_000, 100_000, b"400"),
            (impatient.expose(handler), b"{", 50, b"408"),
            # Nothing of it is waited for.
            (peer.model_copy(update={"token": "x"}), b"", 50_000_000, b"403"),
        ):
            answer = await asyncio.to_thread(said, who, body, length)
            assert answer.split()[1] == status, (body[:10], length)


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
