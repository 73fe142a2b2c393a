"""Small questions between processes reach whoever was exposed for them, and only with its token."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from comfy_dist.errors import ComfyDistError
from comfy_dist.tensors.errors import NotAnswered
from comfy_dist.tensors.plane import Plane
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
