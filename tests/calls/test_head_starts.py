"""Calls bring the first chunk of those who will come at once; whoever does not come in time has lost it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
import torch

from comfy_dist.calls import head_starts, running_job
from comfy_dist.calls.asking import Answer, HeadStart
from comfy_dist.calls.here import Here
from comfy_dist.calls.layout import Layout, Opener
from comfy_dist.calls.participants import Invitation
from comfy_dist.calls.rank import Rank, help_now
from comfy_dist.calls.session import Session
from comfy_dist.calls.shares import Pool
from comfy_dist.calls.turns import Expansion, turns
from comfy_dist.messages import now_ms
from comfy_dist.tensors.packing import INLINE_AT_ONCE
from tests.calls.processes import PARENT, Calling, Worker, a_worker, until
from tests.support.patience import PATIENCE

ITEMS = 24
WHOLE = torch.arange(ITEMS, dtype=torch.float32).reshape(ITEMS, 1, 1, 1)
RANK = 1
LAYOUT = Layout(
    run="in.run",
    shown="in",
    openers={"out": Opener(class_type="ClusterFanOutImage", input="in_0")},
    closers={"in": "join"},
    members=(),
    outputs={},
)
NODES: dict[str, Any] = {
    "out": {"class_type": "ClusterFanOutImage", "inputs": {}},
    "in": {"class_type": "ClusterFanInImages", "inputs": {"input": ["out", 0]}},
}


class Place:
    """A parent's process and a rank's."""

    def __init__(self, worker: Worker, near: Here, far: Here) -> None:
        self.worker = worker
        self.near = near
        self.far = far

    async def calling(
        self,
        batch: torch.Tensor = WHOLE,
        *,
        idle: int = 1,
        ranked: bool = False,
        saves: bool = False,
        speed: float | None = None,
    ) -> Calling:
        """Of a region for three, of whom so many others are idle. `speed`: what they did of such before."""
        pool = Pool(ITEMS, 3, ranked, usual=speed, least=speed)
        session = Session(pool, ("in",), node="in", saves=saves, tell=self.near.tell)
        invitations = [Invitation(None, rank, awaited=rank <= idle) for rank in (1, 2)]
        return await Calling.of(self.near, session, {"out": [batch]}, {"in_1": [{"seed": 7}]}, invitations)

    def head_start(self, call: int = 1) -> HeadStart | None:
        """What came with a call."""
        sent = self.worker.sent[call - 1]
        return HeadStart.model_validate(sent["head_start"]) if sent["head_start"] else None

    async def rank(self, *, attempt: int = 1, until_ms: int | None = None) -> Rank:
        """Who has the first call, as an engine that was told of it."""
        sent = self.worker.sent[0]
        head_start = sent["head_start"] if until_ms is None else {**sent["head_start"], "until": until_ms}
        call = {"root": "parent", "session": sent["session"], "head_start": head_start}
        self.worker.jobs[RANK] = {"id": "call-1", "attempt": attempt, "call": call}
        return Rank(LAYOUT, NODES.__getitem__, self.far, await self.far.thread.run(self.far.job()))

    async def does(self, rank: Rank, expansion: Expansion | None) -> list[int]:
        """Execute chunks as an engine's main thread does, until it is sent home: which."""
        done: list[int] = []
        while expansion is not None:
            (sent,) = [node["inputs"] for key, node in expansion.graph.items() if ".slice." in key]
            (step,) = [node["inputs"]["chunk"] for key, node in expansion.graph.items() if ".step." in key]
            found = self.far.at_hand(sent["content"])
            if found is None:
                found = (await self.far.thread.run(self.far.receive(sent["content"])),)
            (values,) = found[0]
            done.append(int(step))
            results = {"in": [-values]}
            expansion = rank.next_now(int(step), results)
            if expansion is None:
                async with asyncio.timeout(PATIENCE):
                    expansion = await self.far.thread.run(rank.wait(rank.next(int(step), results)))
        return done


async def parent_does_the_rest(calling: Calling, batch: torch.Tensor = WHOLE) -> torch.Tensor:
    chunk = await calling.next()
    while chunk is not None:
        chunk = await calling.next(chunk.index, {"in": [-batch[chunk.start : chunk.stop]]})
    return torch.cat([value for values in calling.session.results()["in"] for value in values])


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Place]:
    async with a_worker() as worker, worker.process(PARENT) as near, worker.process(RANK) as far:
        yield Place(worker, near, far)
        for lane, here in ((RANK, far), (PARENT, near)):
            if lane in worker.jobs:
                await worker.stopped(here, lane)
            assert here._plane is None or here.plane.held.count == 0
        assert not turns


@pytest.fixture
def for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept is kept until the end."""
    monkeypatch.setattr(head_starts, "KEPT_SECONDS", 10 * PATIENCE)


@pytest.fixture
def not_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept is given up before anybody has come."""
    monkeypatch.setattr(head_starts, "KEPT_SECONDS", 0.001)


@pytest.fixture
def told() -> Iterator[None]:
    yield
    running_job.told = None


async def sent(place: Place) -> None:
    await until(lambda: len(place.worker.sent) == 2)


@pytest.mark.usefixtures("for_ever")
async def test_a_rank_begins_without_a_question(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    calling = await place.calling()
    await sent(place)
    head_start = place.head_start()
    assert head_start is not None
    assert head_start.answer.chunk is not None
    assert head_start.answer.values["in_1"].packed == [{"seed": 7}]
    assert place.head_start(2) is None, "nobody is idle who could take it"
    rank = await place.rank()
    asked: list[dict[str, Any]] = []
    ask = place.far.plane.ask

    async def noted(peer: Any, body: dict[str, Any], timeout: float) -> dict[str, Any]:
        asked.append(body)
        return await ask(peer, body, timeout)

    monkeypatch.setattr(place.far.plane, "ask", noted)
    expansion = rank.begin_now()
    assert expansion is not None
    assert not asked
    parent = asyncio.ensure_future(calling.next())
    done = await place.does(rank, expansion)
    assert done[0] == head_start.answer.chunk.index
    assert len(set(done)) == len(done)
    chunk = await parent
    if chunk is not None:
        await calling.next(chunk.index, {"in": [-WHOLE[chunk.start : chunk.stop]]})
    assert torch.equal(await parent_does_the_rest(calling), -WHOLE)
    assert calling.session._results.doers[done[0]] == "call-1"


@pytest.mark.usefixtures("for_ever")
@pytest.mark.parametrize(("ranked", "saves"), [(True, False), (False, True)])
async def test_who_must_not_begin_in_vain_asks(place: Place, ranked: bool, saves: bool) -> None:
    """And of ranked shares the parent has the first."""
    calling = await place.calling(idle=2, ranked=ranked, saves=saves)
    await sent(place)
    assert place.head_start(1) is place.head_start(2) is None
    chunk = await calling.next()
    assert chunk is not None
    assert chunk.index == 0


@pytest.mark.usefixtures("for_ever")
async def test_who_begins_long_work_says_that_it_has_come(place: Place) -> None:
    await place.calling()
    await sent(place)
    rank = await place.rank()
    assert rank.begin_now() is not None
    await until(lambda: bool(place.worker.asked_for("came")))
    assert place.worker.asked_for("came") == [{"call": "call-1", "attempt": 1, "worker": "w"}]


@pytest.mark.usefixtures("not_long")
async def test_others_do_what_was_kept_for_who_does_not_come(place: Place) -> None:
    calling = await place.calling()
    await sent(place)
    assert place.head_start() is not None
    assert torch.equal(await parent_does_the_rest(calling), -WHOLE)
    assert set(calling.session._results.doers.values()) == {""}


@pytest.mark.usefixtures("not_long")
async def test_who_comes_too_late_asks(place: Place) -> None:
    calling = await place.calling()
    await sent(place)
    rank = await place.rank()
    await asyncio.sleep(0.01)
    assert rank.begin_now() is None
    async with asyncio.timeout(PATIENCE):
        done = await place.does(rank, await place.far.thread.run(rank.wait(rank.begin())))
    assert len(set(done)) == len(done)
    assert torch.equal(await parent_does_the_rest(calling), -WHOLE)


@pytest.mark.usefixtures("not_long")
@pytest.mark.parametrize("taken", [False, True])
async def test_whose_clock_is_slow_may_have_begun_in_vain(place: Place, taken: bool) -> None:
    """What it does of a chunk that another has by then counts for nothing; of one that nobody has, it counts."""
    calling = await place.calling()
    await sent(place)
    head_start = place.head_start()
    assert head_start is not None
    assert head_start.answer.chunk is not None
    kept = head_start.answer.chunk.index
    await until(lambda: not calling.session.pool.outstanding("call-1"))
    own = None
    while taken and (own is None or own.index != kept):
        own = await (calling.next() if own is None else calling.next(own.index, _of(own)))
        assert own is not None
    rank = await place.rank(until_ms=now_ms() + 60_000)
    expansion = rank.begin_now()
    await until(lambda: bool(calling.session.worker_of("call-1")))
    assert calling.session.going == [], "it has come, and is at work, be it in vain"
    done = await place.does(rank, expansion)
    assert calling.session.going == ["call-1"]
    assert done[0] == kept
    assert len(set(done)) == len(done)
    if own is not None:
        await calling.next(own.index, _of(own))
    assert torch.equal(await parent_does_the_rest(calling), -WHOLE)
    assert calling.session._results.doers[kept] == ("" if taken else "call-1")


def _of(chunk: Any) -> dict[str, Any]:
    return {"in": [-WHOLE[chunk.start : chunk.stop]]}


@pytest.mark.usefixtures("for_ever")
async def test_another_attempt_is_given_what_the_first_has_not_begun(place: Place) -> None:
    calling = await place.calling()
    await sent(place)
    head_start = place.head_start()
    assert head_start is not None
    rank = await place.rank(attempt=2)
    assert rank.begin_now() is None
    async with asyncio.timeout(PATIENCE):
        done = await place.does(rank, await place.far.thread.run(rank.wait(rank.begin())))
    assert head_start.answer.chunk is not None
    assert done[0] == head_start.answer.chunk.index
    assert torch.equal(await parent_does_the_rest(calling), -WHOLE)


@pytest.mark.usefixtures("for_ever")
async def test_what_is_large_is_asked_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_starts, "MOST_BYTES", 7 * INLINE_AT_ONCE)
    large = torch.ones(ITEMS, 1, INLINE_AT_ONCE, 1)
    calling = await place.calling(large, idle=2)
    await sent(place)
    assert place.head_start() is not None
    assert place.head_start(2) is None, "there was room for one"
    monkeypatch.setattr(head_starts, "MOST_CHARACTERS", 100)
    again = await place.calling(idle=2)
    await until(lambda: len(place.worker.sent) == 4)
    assert place.worker.sent[2]["head_start"] is place.worker.sent[3]["head_start"] is None
    assert not again.session.pool.outstanding("call-3")
    assert torch.equal(await parent_does_the_rest(again), -WHOLE)
    await place.near.thread.run(_closed(calling.session))


async def _closed(session: Session) -> None:
    session.close()


@pytest.mark.usefixtures("for_ever")
@pytest.mark.parametrize(("elements", "most"), [(1, ITEMS), (INLINE_AT_ONCE, 1)])
async def test_of_what_has_to_be_pulled_little_is_begun_with(place: Place, elements: int, most: int) -> None:
    """The rest is pulled while that is executed."""
    batch = torch.arange(ITEMS, dtype=torch.float32).reshape(ITEMS, 1, 1, 1).expand(ITEMS, 1, elements, 1)
    calling = await place.calling(batch, speed=10.0)
    await sent(place)
    head_start = place.head_start()
    assert head_start is not None
    assert head_start.answer.chunk is not None
    assert (head_start.answer.chunk.items > 1) == (most > 1)
    await place.near.thread.run(_closed(calling.session))


@pytest.mark.usefixtures("for_ever")
async def test_nothing_is_kept_where_nothing_could_be_sent(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(call: str) -> None:
        raise ValueError("no")

    monkeypatch.setattr(place.worker, "taken", refused)
    calling = await place.calling(idle=2)
    assert torch.equal(await parent_does_the_rest(calling), -WHOLE)


@pytest.mark.usefixtures("for_ever")
@pytest.mark.parametrize(
    "head_start",
    [
        {},
        {"answer": None, "until": 2**50},
        {"answer": {"chunk": {"index": 0}}, "until": 2**50},
        {"answer": Answer().model_dump(mode="json"), "until": 2**50},
        {"answer": Answer().model_dump(mode="json"), "until": "soon"},
        {"answer": {"chunk": {"index": 0, "start": 0, "stop": 1, "rank": 0, "world": 1}, "slices": 7}, "until": 1},
    ],
)
async def test_a_head_start_that_is_none_is_passed_over(place: Place, head_start: dict[str, Any]) -> None:
    calling = await place.calling(idle=0)
    await sent(place)
    place.worker.sent[0]["head_start"] = head_start
    rank = await place.rank()
    assert rank.begin_now() is None
    async with asyncio.timeout(PATIENCE):
        await place.does(rank, await place.far.thread.run(rank.wait(rank.begin())))
    assert torch.equal(await parent_does_the_rest(calling), -WHOLE)


@pytest.mark.usefixtures("for_ever", "told")
async def test_an_engine_that_was_told_need_not_ask(place: Place) -> None:
    """Once it is connected, as what happens to its job is pushed to it then."""
    await place.calling()
    await sent(place)
    call = {"root": "parent"} | {key: place.worker.sent[0][key] for key in ("session", "head_start")}
    place.worker.jobs[RANK] = {"id": "before", "attempt": 1, "call": None}
    running_job.told = {"id": "call-1", "attempt": 1, "call": call}
    assert help_now(LAYOUT, NODES.__getitem__, place.far) is None, "it is not connected"
    before = await place.far.thread.run(place.far.job())
    assert before.id == "before"
    assert place.far.job_now() is None, "the one before is not over here yet"
    await place.worker.stopped(place.far, RANK)
    asked = len(place.worker.asked_for("job"))
    assert help_now(LAYOUT, NODES.__getitem__, place.far) is not None
    job = place.far.job_now()
    assert job is not None
    assert job is await place.far.thread.run(place.far.job())
    assert len(place.worker.asked_for("job")) == asked
    place.worker.jobs[RANK] = running_job.told
    await place.worker.stopped(place.far, RANK)
    assert job.over
    assert place.far.job_now() is None
