"""A rank goes on without a pause: shortly before it is done with a chunk it asks for the next and pulls that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import pytest
import pytest_asyncio
import torch

from comfy_dist.calls import rank
from comfy_dist.calls.errors import Stopped
from comfy_dist.calls.here import Here
from comfy_dist.calls.layout import Layout, Opener
from comfy_dist.calls.rank import Rank
from comfy_dist.calls.session import Session
from comfy_dist.calls.shares import Pool
from comfy_dist.calls.turns import Expansion, turns
from comfy_dist.messages import Peer
from comfy_dist.tensors.errors import NotAnswered, NotPulled
from comfy_dist.tensors.packing import INLINE_AT_ONCE
from tests.calls.processes import PARENT, Calling, Worker, a_worker, until
from tests.support.patience import PATIENCE

T = TypeVar("T")

ITEMS = 24
#: Each item is larger than what is written out instead of being held.
WHOLE = torch.arange(ITEMS * INLINE_AT_ONCE, dtype=torch.float32).reshape(ITEMS, 1, INLINE_AT_ONCE, 1)
#: The lane of the rank's process.
RANK = 1
#: Seconds for an item: so long that what is asked for ahead has come before the chunk is done.
ITEM_SECONDS = 0.05

LAYOUT = Layout(
    run="in.run",
    shown="in",
    openers={"out": Opener(class_type="ClusterFanOutImage", input="in_0")},
    closers={"in": "batch"},
    members=(),
    outputs={},
)
NODES: dict[str, Any] = {
    "out": {"class_type": "ClusterFanOutImage", "inputs": {}},
    "in": {"class_type": "ClusterFanInImages", "inputs": {"input": ["out", 0]}},
    "save": {"class_type": "SaveImage", "inputs": {"images": ["out", 0]}},
}


class Region:
    """A session of the parent's process, and the rank of another one."""

    def __init__(self, worker: Worker, calling: Calling, far: Here, rank: Rank) -> None:
        self.worker = worker
        self.calling = calling
        self.session = calling.session
        self.far = far
        self.rank = rank

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """On the rank's loop."""
        async with asyncio.timeout(PATIENCE):
            return await self.far.thread.run(self.rank.wait(work))

    async def did(self, expansion: Expansion, until_so: Callable[[], bool] | None = None) -> Expansion | None:
        """Execute a chunk, at least until that is so, and hand it in: the next."""
        (sent,) = [node["inputs"] for key, node in expansion.graph.items() if ".slice." in key]
        (values,) = await self.run(self.far.receive(sent["content"]))
        await asyncio.sleep(ITEM_SECONDS * len(values))
        if until_so is not None:
            await until(until_so)
        return await self.run(self.rank.next(_index(expansion), {"in": [-values]}))

    async def has_begun(self) -> Expansion:
        """Its second chunk: with the first one it has learned how long items take."""
        first = await self.run(self.rank.begin())
        assert first is not None
        second = await self.did(first)
        assert second is not None
        return second

    async def does_all(self) -> list[int]:
        """Until it is sent home, asking ahead for each but the first: the chunks that it has executed."""
        expansion: Expansion | None = await self.has_begun()
        done = [0]
        while expansion is not None:
            done.append(_index(expansion))
            expansion = await self.did(expansion, self.has_asked_ahead)
        return done

    def has_asked_ahead(self) -> bool:
        """Or need not, as there is nothing after it."""
        return self.rank._last or (self.rank._ahead is not None and self.rank._ahead.done())

    def has_pulled_ahead(self) -> bool:
        return self.outstanding() == 2 and any(task.done() for task in list(self.far._coming.values()))

    def outstanding(self) -> int:
        return len(self.session.pool.outstanding("call-1"))

    async def parent_does_the_rest(self) -> torch.Tensor:
        chunk = await self.calling.next()
        while chunk is not None:
            chunk = await self.calling.next(chunk.index, {"in": [-WHOLE[chunk.start : chunk.stop]]})
        results = self.session.results()["in"]
        return torch.cat([value for values in results for value in values])


def _index(expansion: Expansion) -> int:
    """Of the chunk that it executes."""
    (step,) = [node["inputs"]["chunk"] for key, node in expansion.graph.items() if ".step." in key]
    return int(step)


@pytest_asyncio.fixture
async def region() -> AsyncIterator[Region]:
    async with a_worker() as worker, worker.process(PARENT) as near, worker.process(RANK) as far:
        session = Session(Pool(ITEMS, 2, ranked=False, chunks_per_worker=8), ("in",), node="in")
        calling = await Calling.of(near, session, {"out": [WHOLE]})
        worker.jobs[RANK] = {
            "id": "call-1",
            "attempt": 1,
            "call": {"root": "parent", "session": calling.peer.model_dump(mode="json")},
        }
        job = await far.thread.run(far.job())
        yield Region(worker, calling, far, Rank(LAYOUT, NODES.__getitem__, far, job))
        for lane, here in ((RANK, far), (PARENT, near)):
            await worker.stopped(here, lane)
            assert here.plane.held.count == 0
            assert not here._coming
        assert not turns


async def test_the_next_chunk_is_there_before_the_one_at_hand_is_done(region: Region) -> None:
    ahead = []

    def has_pulled_ahead() -> bool:
        ahead[:] = region.session.pool.outstanding("call-1")[1:]
        return region.has_pulled_ahead()

    third = await region.did(await region.has_begun(), has_pulled_ahead)
    assert third is not None
    assert any(f".step.{ahead[0].index}" in key for key in third.graph)
    while third is not None:
        third = await region.did(third)
    assert torch.equal(await region.parent_does_the_rest(), -WHOLE)
    assert len(region.session.pool.chunks) > 3
    assert set(region.session._results.doers.values()) == {"call-1"}


@pytest.mark.parametrize("error", [NotPulled("The wire is cut for a moment."), RuntimeError("out of memory")])
async def test_what_cannot_be_pulled_ahead_is_pulled_when_it_is_needed(
    region: Region, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    unpack, broken, pulled = region.far.plane.unpack, [], []

    async def breaks_once(packed: Any) -> Any:
        if not broken and asyncio.current_task() in region.far._coming.values():
            broken.append(packed)
            raise error
        pulled.append(packed)
        return await unpack(packed)

    monkeypatch.setattr(region.far.plane, "unpack", breaks_once)
    third = await region.did(await region.has_begun(), lambda: bool(broken))
    while third is not None:
        third = await region.did(third)
    assert broken[0] in pulled
    assert torch.equal(await region.parent_does_the_rest(), -WHOLE)


async def test_a_chunk_that_is_done_sooner_than_expected_is_followed_by_the_next(region: Region) -> None:
    third = await region.has_begun()
    while third is not None:
        chunk = region.session.pool.chunks[_index(third)]
        results = {"in": [-WHOLE[chunk.start : chunk.stop]]}
        third = await region.run(region.rank.next(chunk.index, results))
    assert torch.equal(await region.parent_does_the_rest(), -WHOLE)


async def test_a_rank_whose_region_is_over_goes_home_with_what_it_has_asked_for(region: Region) -> None:
    third = await region.did(await region.has_begun(), region.has_pulled_ahead)
    assert third is not None

    async def close() -> None:
        region.session.close()

    await region.calling.here.thread.run(close())
    assert await region.did(third) is None


async def test_an_interruption_ends_what_is_asked_for_ahead(region: Region) -> None:
    second = await region.has_begun()

    def is_stopped() -> bool:
        if region.has_pulled_ahead():
            region.worker.stop(RANK)
        return region.far._job is None or region.far._job.over

    with pytest.raises(Stopped):
        await region.did(second, is_stopped)
    assert not len(region.far.inbox)


async def test_equal_slices_are_pulled_ahead_once(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    unpack, pulled = region.far.plane.unpack, []

    async def seen(packed: Any) -> Any:
        pulled.append(packed)
        return await unpack(packed)

    monkeypatch.setattr(region.far.plane, "unpack", seen)
    region.far.inbox.put("call-1", "content", [7])
    await region.run(region.far.bring(["content", "content"]))
    assert [await region.run(region.far.receive("content")) for _ in range(2)] == [[7], [7]]
    assert len(pulled) == 2, "for the one node ahead of time, then for the other"


async def test_results_that_are_slow_to_be_told_are_not_made_twice(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chunk after the next is asked for while they are on their way."""
    ask, overtaken = region.far.plane.ask, []
    asked_ahead: set[int] = set()

    async def slow(peer: Peer, body: dict[str, Any], timeout: float) -> dict[str, Any]:
        if "free_in" in body and body["free_in"] is None:
            done = body["done"]["chunk"]
            await until(lambda: max(asked_ahead) > done or not region.session.pool.left)
            overtaken.extend([done] if max(asked_ahead) > done else [])
        answer = await ask(peer, body, timeout)
        if body.get("free_in"):
            asked_ahead.add(body["at"])
        return answer

    monkeypatch.setattr(region.far.plane, "ask", slow)
    executed = await region.does_all()
    assert len(set(executed)) == len(executed)
    assert overtaken
    assert torch.equal(await region.parent_does_the_rest(), -WHOLE)
    assert set(region.session._results.doers.values()) == {"call-1"}


async def test_results_that_cannot_be_told_are_made_by_others(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rank goes on, as it can be heard again, and executes no chunk twice."""
    ask, lost = region.far.plane.ask, []

    async def breaks(peer: Peer, body: dict[str, Any], timeout: float) -> dict[str, Any]:
        if "free_in" in body and body["free_in"] is None and lost[:1] in ([], [body["done"]["chunk"]]):
            lost.append(body["done"]["chunk"])
            raise NotAnswered("The wire is cut.")
        return await ask(peer, body, timeout)

    monkeypatch.setattr(region.far.plane, "ask", breaks)
    monkeypatch.setattr(rank, "RETRY_SECONDS", (0.01,))
    executed = await region.does_all()
    assert len(set(executed)) == len(executed)
    assert len(lost) == 2
    region.worker.push("call-1", "ended", status="finished")
    assert torch.equal(await region.parent_does_the_rest(), -WHOLE)
    assert region.session._results.doers[lost[0]] == ""
