"""Ids that clients give: one job for each, whoever asks, however often, wherever."""

from __future__ import annotations

import asyncio
import random
import re
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from comfy_dist.transport import Transport
from comfy_dist.transport.amqp import AmqpTransport, publisher
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import Cluster, in_process, prompt
from tests.support.patience import PATIENCE
from tests.support.talking import Answer, Frontend, Prompt
from tests.support.wire import Wire

Join = Callable[[], Transport]


@pytest.fixture(params=["memory", "amqp"])
def join(request: pytest.FixtureRequest) -> Join:
    if request.param == "memory":
        broker = MemoryBroker()
        return lambda: MemoryTransport(broker)
    uri, name = request.getfixturevalue("amqp_uri"), request.getfixturevalue("queue_name")
    return lambda: AmqpTransport(uri, name)


@dataclass
class Pair:
    """Two frontends and a worker."""

    cluster: Cluster
    frontends: tuple[Frontend, Frontend]

    @property
    def executions(self) -> Counter[str]:
        return Counter(job for _, job in self.cluster.stage.executed)


@pytest.fixture
async def pair(join: Join, tmp_path: Path) -> AsyncIterator[Pair]:
    async with in_process(tmp_path, join) as cluster:
        await cluster.worker("w", engines=2)
        one, _ = await cluster.frontend("one")
        two, _ = await cluster.frontend("two")
        for frontend in (one, two):
            await until(frontend, "GET", "/ready", 200)
        yield Pair(cluster, (one, two))


async def until(frontend: Frontend, method: str, path: str, status: int, **options: Any) -> None:
    """Ask until it is answered so."""
    async with asyncio.timeout(PATIENCE):
        while (await frontend.ask(method, path, **options)).status != status:
            await asyncio.sleep(0.05)


def quick(text: str) -> Prompt:
    return {"1": {"class_type": "Quick", "inputs": {"text": text}}}


async def post(frontend: Frontend, prompt: Prompt, prompt_id: str, **more: Any) -> Answer:
    return await frontend.ask("POST", "/prompt", json={"prompt": prompt, "prompt_id": prompt_id, **more})


async def test_given_at_once_and_often_it_is_one_job(pair: Pair) -> None:
    id_ = uuid.uuid4().hex
    answers = await asyncio.gather(*(post(pair.frontends[n % 2], quick("a"), id_) for n in range(12)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json()["number"] for answer in answers}) == 1
    for frontend in pair.frontends:
        await frontend.ended(id_)
        await frontend.idle()
    again = await post(pair.frontends[0], quick("a"), id_)
    assert (again.status, again.json()["prompt_id"]) == (200, id_)
    assert pair.executions[id_] == 1


async def test_of_different_prompts_at_once_one_is_accepted_shown_and_executed(pair: Pair) -> None:
    for _ in range(5):
        id_ = uuid.uuid4().hex
        # The same number and, it may be, the same millisecond.
        kinds = ("Quick", "Wait")
        answers = await asyncio.gather(
            *(post(pair.frontends[n % 2], prompt(kinds[n // 2 % 2]), id_, number=7) for n in range(8))
        )
        accepted = {kinds[n // 2 % 2] for n, answer in enumerate(answers) if answer.status == 200}
        assert len(accepted) == 1
        (kind,) = accepted
        for n, answer in enumerate(answers):
            if kinds[n // 2 % 2] != kind:
                assert (answer.status, answer.error["type"]) == (409, "prompt_id_in_use")
        if kind == "Wait":
            await pair.frontends[0].running(id_)
            await pair.frontends[0].post("/interrupt", {"prompt_id": id_})
        for frontend in pair.frontends:
            entry = await frontend.ended(id_)
            assert entry["prompt"][2]["1"]["class_type"] == kind
            assert entry["status"]["messages"][-1][0] == (
                "execution_success" if kind == "Quick" else "execution_interrupted"
            )
        assert pair.executions[id_] == 1


async def test_whatever_is_given_under_whatever_id_each_id_is_one_job(pair: Pair) -> None:
    chance = random.Random(4)
    ids = [uuid.uuid4().hex for _ in range(6)]
    asked = [(chance.choice(ids), chance.choice("abc"), chance.choice(pair.frontends)) for _ in range(60)]

    async def ask(id_: str, text: str, frontend: Frontend) -> Answer:
        await asyncio.sleep(chance.random() / 10)
        return await post(frontend, quick(text), id_)

    answers = await asyncio.gather(*(ask(*each) for each in asked))
    accepted: dict[str, set[str]] = defaultdict(set)
    for (id_, text, _), answer in zip(asked, answers, strict=True):
        assert answer.status in (200, 409)
        if answer.status == 200:
            accepted[id_].add(text)
    assert all(len(texts) == 1 for texts in accepted.values())
    assert accepted.keys() == {id_ for id_, _, _ in asked}
    for frontend in pair.frontends:
        for id_, texts in accepted.items():
            entry = await frontend.ended(id_)
            assert {entry["prompt"][2]["1"]["inputs"]["text"]} == texts
    assert set(pair.executions.values()) == {1}


async def test_an_id_may_be_any_text_that_can_be_shown(pair: Pair) -> None:
    for id_ in ("a b", "ü/ö", "..", "%2F", "ü" * 100, "😀" * 50, "'; DROP TABLE jobs; --", "#*.#", "null"):
        answer = await post(pair.frontends[0], quick(id_), id_)
        assert (answer.status, answer.json().get("prompt_id")) == (200, id_), answer
        await pair.frontends[1].wait(lambda entries, id_=id_: id_ in entries, "/history")


async def test_what_can_be_no_id_is_refused(pair: Pair) -> None:
    for id_ in ("x" * 101, "😀" * 51, "x" * 10_000, "a\nb", "a\0b", "\u202e", 7, ["a"], {"a": 1}, True):
        answer = await pair.frontends[0].ask("POST", "/prompt", json={"prompt": quick("a"), "prompt_id": id_})
        assert answer.status == 400
        assert re.fullmatch(
            r"prompt_id (must be a text of|has \d+ bytes in UTF-8; 200).+\.", answer.error["message"]
        )
    assert not pair.cluster.stage.executed


# When the broker does not confirm


async def accepted(frontend: Frontend, prompt_id: str) -> None:
    """A second is little for a broker on a busy machine."""
    await until(frontend, "POST", "/prompt", 200, json={"prompt": quick("a"), "prompt_id": prompt_id})


@pytest.fixture
async def wired(
    amqp_uri: str, queue_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Pair, Wire]]:
    """The first frontend is on a wire, and soon takes silence for an answer."""
    monkeypatch.setattr(publisher, "CONFIRM_TIMEOUT", 1.0)
    async with Wire(amqp_uri) as wire:
        uris = iter([amqp_uri, wire.uri, amqp_uri])
        async with in_process(tmp_path, lambda: AmqpTransport(next(uris), queue_name)) as cluster:
            await cluster.worker("w")
            one, _ = await cluster.frontend("one")
            two, _ = await cluster.frontend("two")
            for frontend in (one, two):
                await until(frontend, "GET", "/ready", 200)
            yield Pair(cluster, (one, two)), wire


async def test_what_was_never_sent_may_be_given_again(wired: tuple[Pair, Wire]) -> None:
    pair, wire = wired
    one, two = pair.frontends
    ids = [uuid.uuid4().hex, uuid.uuid4().hex]
    wire.cut()
    await until(one, "GET", "/health", 503)
    assert (await one.ask("GET", "/ready")).json()["reasons"] == ["The broker is not reached."]
    for id_ in ids:
        answer = await post(one, quick("a"), id_)
        assert (answer.status, answer.error["type"]) == (503, "broker_unavailable")
        assert "will not run" in answer.error["message"]
    # At another frontend, and at the same one when the broker is back.
    await accepted(two, ids[0])
    await two.ended(ids[0])
    wire.mend()
    await accepted(one, ids[1])
    for id_ in ids:
        for frontend in pair.frontends:
            assert (await frontend.ended(id_))["status"]["status_str"] == "success"
        assert pair.executions[id_] == 1


async def test_what_may_have_been_sent_never_runs_unless_it_is_submitted_again(wired: tuple[Pair, Wire]) -> None:
    pair, wire = wired
    one, two = pair.frontends
    id_, taken = uuid.uuid4().hex, uuid.uuid4().hex
    wire.swallows = True
    for each in (id_, taken):
        assert (await post(one, quick("a"), each)).status == 503
    # Nobody else knows of it yet: there it is a new one, and stays so.
    await accepted(two, taken)
    await two.ended(taken)
    wire.mend()
    # Nor is it used up: what is submitted again is told from what was refused.
    await accepted(two, id_)
    for frontend in pair.frontends:
        for each in (id_, taken):
            assert (await frontend.ended(each))["status"]["status_str"] == "success"
    assert pair.executions == {taken: 1, id_: 1}
