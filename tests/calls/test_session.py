"""A region's parent gets every result exactly once, whatever becomes of the ranks that it has called."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import torch

from comfy_dist.calls.errors import LinkLost, RankFailed, Stopped
from comfy_dist.calls.here import Here
from comfy_dist.calls.participants import participants
from comfy_dist.calls.recruiting import Recruiting
from comfy_dist.calls.session import Session
from comfy_dist.calls.shares import Pool
from comfy_dist.calls.turns import turns
from comfy_dist.messages import Peer, Spread
from comfy_dist.tensors.errors import NotAnswered
from comfy_dist.tensors.packing import INLINE_AT_ONCE, refs
from comfy_dist.tensors.plane import Plane
from tests.calls.processes import PARENT, Calling, Worker, a_worker, until
from tests.support.patience import PATIENCE
from tests.tensors.planes import SERVED

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Larger than what is written out instead of being held, for each item.
WHOLE = torch.arange(24 * INLINE_AT_ONCE, dtype=torch.float32).reshape(24, 1, INLINE_AT_ONCE, 1)


class Cluster:
    """A worker with the parent's process, and the planes of two that help."""

    def __init__(self, worker: Worker, here: Here, far: Plane, other: Plane) -> None:
        self.worker = worker
        self.here = here
        self.far = far
        self.other = other

    async def calling(
        self,
        *,
        ranked: bool = True,
        saves: bool = False,
        items: int = 6,
        chunks_per_worker: int = 4,
    ) -> Calling:
        """A session for three that has called the others: call-1 and call-2, counted from what was sent before."""
        session = Session(Pool(items, 3, ranked, chunks_per_worker), ("in",), node="9", saves=saves)
        self.sent = len(self.worker.sent)
        return await Calling.of(self.here, session, {"out": [WHOLE[:items]]}, {"in_0": [{"seed": 7}]})

    def call(self, rank: int) -> str:
        return f"call-{self.sent + rank}"

    async def push(self, rank: int, state: str, attempt: int = 1, **more: Any) -> None:
        """And wait until it is heard: ranks' questions come another way."""
        self.worker.push(self.call(rank), state, attempt, **more)
        async with asyncio.timeout(PATIENCE):
            await self.here.thread.run(self.here.ask("hello"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def planes() -> AsyncIterator[tuple[Plane, Plane]]:
    far, other = Plane(SERVED | {"via": "far/0"}), Plane(SERVED | {"via": "other/0"})
    yield far, other
    far.close()
    other.close()


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(planes: tuple[Plane, Plane]) -> AsyncIterator[Cluster]:
    async with a_worker() as worker, worker.process(PARENT) as here:
        yield Cluster(worker, here, *planes)
        if here._job is not None and not here._job.over:
            await worker.stopped(here)
        assert here.plane.held.count == 0
        assert not turns
    for plane in planes:
        plane.release("rank")
        assert plane.held.count == 0


async def did(plane: Plane, answer: dict[str, Any]) -> dict[str, Any]:
    """A rank's work on the chunk that it was given: the negative of each item."""
    (values,) = [await plane.unpack(sent["packed"]) for sent in answer["slices"].values()]
    results = {"in": plane.pack([-value for value in values], "rank")}
    return {"chunk": answer["chunk"]["index"], "results": results}


async def helps(calling: Calling, plane: Plane, call: str, answer: dict[str, Any], attempt: int = 1) -> None:
    """Go on as a rank until it is sent home."""
    while answer["chunk"] is not None or answer["again"]:
        done = await did(plane, answer) if answer["chunk"] else None
        answer = await calling.ask(plane, call, done, attempt)


async def parent_does_the_rest(calling: Calling, chunk: Any = None) -> torch.Tensor:
    """Go on as the parent until all is there: the results, joined."""
    chunk = chunk or await calling.next()
    while chunk is not None:
        chunk = await calling.next(chunk.index, {"in": [-WHOLE[chunk.start : chunk.stop]]})
    joined = torch.cat([value for values in calling.session.results()["in"] for value in values])
    await calling.here.thread.run(_closed(calling.session))
    return joined


async def _closed(session: Session) -> None:
    session.close()


def _is_whole(result: torch.Tensor, items: int = 6) -> bool:
    return torch.equal(result, -WHOLE[:items])


@pytest.mark.parametrize("ranked", [True, False])
async def test_ranks_do_chunks_and_the_results_are_in_order(cluster: Cluster, ranked: bool) -> None:
    calling = await cluster.calling(ranked=ranked)
    own = await calling.next()
    answers = {
        rank: await calling.ask(plane, cluster.call(rank), values=True)
        for rank, plane in ((2, cluster.other), (1, cluster.far))
    }
    assert answers[1]["workers"] == calling.session.workers
    assert await cluster.far.unpack(answers[1]["values"]["in_0"]["packed"]) == [{"seed": 7}]
    for rank, plane in ((1, cluster.far), (2, cluster.other)):
        await helps(calling, plane, cluster.call(rank), answers[rank])
        assert plane.held.count == 0, "what was fetched is held no longer"
    assert _is_whole(await parent_does_the_rest(calling, own))


async def test_equal_content_is_known_by_it_and_other_content_is_not(cluster: Cluster) -> None:
    def contents(answer: dict[str, Any]) -> tuple[str, str]:
        return answer["slices"]["out"]["content"], answer["values"]["in_0"]["content"]

    seen = []
    for _ in range(2):
        calling = await cluster.calling()
        seen.append([contents(await calling.ask(cluster.far, cluster.call(rank), values=True)) for rank in (1, 2)])
        await parent_closes(calling)
    assert seen[0] == seen[1]
    assert seen[0][0][0] != seen[0][1][0]
    assert seen[0][0][1] == seen[0][1][1]


async def parent_closes(calling: Calling) -> None:
    await calling.here.thread.run(_closed(calling.session))


async def test_a_rank_that_is_gone_before_it_delivers_costs_nothing(cluster: Cluster) -> None:
    calling = await cluster.calling()
    own = await calling.next()
    taken = await calling.ask(cluster.far, cluster.call(1))
    assert taken["chunk"] is not None
    rest = asyncio.ensure_future(parent_does_the_rest(calling, own))
    await until(lambda: not calling.session.pool.outstanding(""))
    await cluster.push(1, "gone")
    assert _is_whole(await asyncio.wait_for(rest, PATIENCE))


async def test_who_is_gone_with_a_chunk_and_the_next_costs_nothing(cluster: Cluster) -> None:
    calling = await cluster.calling(ranked=False, chunks_per_worker=6)
    at = await calling.ask(cluster.far, cluster.call(1))
    ahead = await calling.ask(cluster.far, cluster.call(1), at=at["chunk"]["index"], free_in=20)
    assert len(calling.session.pool.outstanding(cluster.call(1))) == 2
    await cluster.push(1, "gone")
    assert _is_whole(await parent_does_the_rest(calling))
    assert {calling.session._results.doers[each["chunk"]["index"]] for each in (at, ahead)} == {""}


async def test_a_region_may_take_days(cluster: Cluster) -> None:
    calling = await cluster.calling()
    answer = await calling.ask(cluster.far, cluster.call(1))
    ends = [calling.peer.expires, *(ref.expires for ref in refs(answer["slices"]))]
    assert len(ends) > 1
    assert min(ends) > time.time() + 3 * 24 * 3600
    await parent_closes(calling)


async def test_results_that_can_be_had_no_more_are_made_anew(cluster: Cluster) -> None:
    """A rank that ends between its delivery and the fetching of it."""
    calling = await cluster.calling()
    own = await calling.next()
    with_nobody = Plane(SERVED | {"via": "dying/0"})
    done = await did(with_nobody, await calling.ask(with_nobody, cluster.call(1)))
    with_nobody.close()
    await helps(calling, cluster.far, cluster.call(1), await calling.ask(cluster.far, cluster.call(1), done))
    assert _is_whole(await parent_does_the_rest(calling, own))
    assert calling.session._results.doers[done["chunk"]] == ""


async def test_what_comes_late_is_dropped(cluster: Cluster) -> None:
    """Of an attempt that was given up, and of one that another has taken the place of."""
    calling = await cluster.calling()
    late = await calling.ask(cluster.far, cluster.call(1))
    old = await calling.ask(cluster.far, cluster.call(2))
    await cluster.push(1, "gone")
    await until(lambda: not calling.session.pool.outstanding(cluster.call(1)))
    new = await calling.ask(cluster.other, cluster.call(2), attempt=2)
    assert new["chunk"] in (old["chunk"], late["chunk"])
    wrong = {"in": cluster.far.pack([WHOLE[:1] * 0], "rank")}
    for rank, answer in ((1, late), (2, old)):
        done = {"chunk": answer["chunk"]["index"], "results": wrong}
        said = await calling.ask(cluster.far, cluster.call(rank), done)
        assert (said["chunk"], said["again"]) == (None, False)
    await helps(calling, cluster.other, cluster.call(2), new, attempt=2)
    assert _is_whole(await parent_does_the_rest(calling))


async def test_the_first_of_two_results_for_one_chunk_counts(cluster: Cluster) -> None:
    calling = await cluster.calling()
    first = await calling.ask(cluster.far, cluster.call(1))
    other = await calling.ask(cluster.other, cluster.call(2))
    done = await did(cluster.far, first)
    next_ = await calling.ask(cluster.far, cluster.call(1), done)
    wrong = cluster.far.pack([WHOLE[:1] * 0], "rank")
    index = first["chunk"]["index"]
    for plane, rank in ((cluster.far, 1), (cluster.other, 2)):
        await calling.ask(plane, cluster.call(rank), {"chunk": index, "results": {"in": wrong}})
    await helps(calling, cluster.other, cluster.call(2), other)
    await helps(calling, cluster.far, cluster.call(1), next_)
    assert _is_whole(await parent_does_the_rest(calling))


async def test_a_question_that_is_repeated_is_answered_alike(cluster: Cluster) -> None:
    calling = await cluster.calling(ranked=False)
    first, again = [await calling.ask(cluster.far, cluster.call(1)) for _ in range(2)]
    assert first == again
    done = await did(cluster.far, first)
    second, again = [await calling.ask(cluster.far, cluster.call(1), done) for _ in range(2)]
    assert second["chunk"] == again["chunk"]
    assert second["chunk"] is None or second["chunk"]["index"] != first["chunk"]["index"]
    await cluster.push(1, "gone")
    assert _is_whole(await parent_does_the_rest(calling))


async def test_what_a_rank_has_begun_it_is_not_given_again(cluster: Cluster) -> None:
    """While its results are still on their way it asks for what comes next, ahead of time, as its prompt executes
    a chunk once."""
    calling = await cluster.calling(ranked=False, chunks_per_worker=6)
    given = [await calling.ask(cluster.far, cluster.call(1))]
    for _ in range(3):
        at = given[-1]["chunk"]["index"]
        ahead = await calling.ask(cluster.far, cluster.call(1), at=at, free_in=20)
        if ahead["chunk"] is None:
            break
        again = await calling.ask(cluster.far, cluster.call(1), at=at, free_in=20)
        assert again["chunk"] == ahead["chunk"]
        given.append(ahead)
    indices = [answer["chunk"]["index"] for answer in given]
    assert len(indices) > 2
    assert len(set(indices)) == len(indices)
    for answer in given:
        done = await did(cluster.far, answer)
        await calling.ask(cluster.far, cluster.call(1), done, at=indices[-1], free_in=None)
    assert _is_whole(await parent_does_the_rest(calling))
    assert {calling.session._results.doers[index] for index in indices} == {cluster.call(1)}


async def test_a_result_that_did_not_come_before_the_next_is_made_by_others(cluster: Cluster) -> None:
    calling = await cluster.calling(ranked=False, chunks_per_worker=6)
    first = await calling.ask(cluster.far, cluster.call(1))
    at = first["chunk"]["index"]
    second = await calling.ask(cluster.far, cluster.call(1), at=at, free_in=20)
    at = second["chunk"]["index"]
    done = await did(cluster.far, second)
    third = await calling.ask(cluster.far, cluster.call(1), done, at=at)
    assert third["chunk"] is None or third["chunk"]["index"] > at
    late = await did(cluster.far, first)
    await calling.ask(cluster.far, cluster.call(1), late, at=at, free_in=None)
    await cluster.push(1, "ended", status="finished")
    assert _is_whole(await parent_does_the_rest(calling))
    assert calling.session._results.doers[first["chunk"]["index"]] == ""


async def test_whose_end_is_on_its_way(cluster: Cluster) -> None:
    """Who has come and has nothing, not who may yet come, nor who is gone."""
    calling = await cluster.calling()
    first = await calling.ask(cluster.far, cluster.call(1), worker_id="far-id")
    await calling.ask(cluster.other, cluster.call(2), worker_id="other-id")
    await cluster.push(2, "gone")
    assert calling.session.going == []
    await helps(calling, cluster.far, cluster.call(1), first)
    assert calling.session.going == [cluster.call(1)]
    assert _is_whole(await parent_does_the_rest(calling))


async def test_what_is_no_question_of_its_ranks_is_refused_and_harms_nobody(cluster: Cluster) -> None:
    calling = await cluster.calling()
    call = cluster.call(1)
    taken = await calling.ask(cluster.far, call)
    index = taken["chunk"]["index"]
    for question, sentence in (
        ({}, "call"),
        ({"call": call}, "attempt"),
        ({"call": call, "attempt": -1}, "attempt"),
        ({"call": [], "attempt": 1}, "call"),
        ({"call": call, "attempt": 1, "done": 3}, "done"),
        ({"call": call, "attempt": 1, "done": {"chunk": -1, "results": {}}}, "chunk"),
        ({"call": call, "attempt": 1, "done": {"chunk": index, "results": {}}}, "gives results for in"),
        ({"call": call, "attempt": 1, "done": {"chunk": index, "results": {"in": 1, "more": 2}}}, "in"),
        ({"call": "stranger", "attempt": 1}, "stranger"),
    ):
        assert sentence in await calling.refusal(cluster.far, question)
    forged = calling.peer.model_copy(update={"token": calling.peer.token[:-1] + "-"})
    assert await calling.refusal(cluster.far, {"call": call, "attempt": 1}, forged)
    await helps(calling, cluster.far, call, taken)
    assert _is_whole(await parent_does_the_rest(calling))


@pytest.mark.parametrize("results", [7, "text", {"a": 1}, {"$": "tensor", "ref": {"id": "x"}}, {"$": "nothing"}])
async def test_results_that_are_none_are_made_anew(cluster: Cluster, results: Any) -> None:
    calling = await cluster.calling()
    taken = await calling.ask(cluster.far, cluster.call(1))
    done = {"chunk": taken["chunk"]["index"], "results": {"in": results}}
    await helps(calling, cluster.far, cluster.call(1), await calling.ask(cluster.far, cluster.call(1), done))
    assert _is_whole(await parent_does_the_rest(calling))
    assert calling.session._results.doers[done["chunk"]] == ""


async def test_a_rank_whose_results_cannot_be_had_twice_in_a_row_goes_home(cluster: Cluster) -> None:
    calling = await cluster.calling(ranked=False, items=24)

    async def spoiled(answer: dict[str, Any]) -> dict[str, Any]:
        done = {"chunk": answer["chunk"]["index"], "results": {"in": None}}
        answer = await calling.ask(cluster.far, cluster.call(1), done)
        while answer["again"]:
            answer = await calling.ask(cluster.far, cluster.call(1))
        return answer

    answer = await spoiled(await calling.ask(cluster.far, cluster.call(1)))
    assert answer["chunk"] is not None, "once may be by chance"
    answer = await calling.ask(cluster.far, cluster.call(1), await did(cluster.far, answer))
    await until(lambda: len(calling.session._results) == 1)
    failures = []
    while answer["chunk"] is not None:
        answer = await spoiled(answer)
        failures.append(answer)
        await until(lambda: calling.session._guests[cluster.call(1)].failures == len(failures))
    assert len(failures) == 2, "what is written out is known at once"
    assert _is_whole(await parent_does_the_rest(calling), 24)
    assert list(calling.session._results.doers.values()).count(cluster.call(1)) == 1


async def test_a_rank_that_fails_fails_the_parent_with_its_words(cluster: Cluster) -> None:
    calling = await cluster.calling()
    await calling.next()
    await calling.ask(cluster.far, cluster.call(2))
    waiting = asyncio.ensure_future(parent_does_the_rest(calling))
    error = {"node_id": "5", "node_type": "Blur", "exception_message": "no room\n", "exception_type": "E"}
    await cluster.push(2, "ended", status="failed", error=error)
    with pytest.raises(RankFailed, match=r"Rank 2 on worker far failed at node 5 \(Blur\): no room$"):
        await asyncio.wait_for(waiting, PATIENCE)
    assert (await calling.ask(cluster.other, cluster.call(1)))["chunk"] is None


@pytest.mark.parametrize(
    "ended",
    [
        {"status": "finished"},
        {"status": "cancelled"},
        {"status": "failed", "error": {"exception_type": "comfy_dist.tensors.errors.NotPulled", "node_id": "3"}},
        {"status": "failed", "error": {"exception_type": "comfy_dist.calls.errors.LinkLost", "node_id": "3"}},
        {"status": "failed", "error": {"exception_type": "EngineDied", "node_id": "3"}},
    ],
)
async def test_a_call_that_ends_without_its_result_only_costs_time(
    cluster: Cluster, ended: dict[str, Any]
) -> None:
    """It was cancelled, went home, or could not reach its parent."""
    calling = await cluster.calling()
    await calling.ask(cluster.far, cluster.call(1))
    rest = asyncio.ensure_future(parent_does_the_rest(calling))
    await cluster.push(1, "ended", **ended)
    assert _is_whole(await asyncio.wait_for(rest, PATIENCE))


@pytest.mark.parametrize(("how", "told"), [("stop", Stopped), ("lost", LinkLost)])
async def test_who_waits_for_ranks_stops_when_it_is_told(
    cluster: Cluster, how: str, told: type[Exception]
) -> None:
    """And is told why: nobody has interrupted a job whose worker was lost."""
    calling = await cluster.calling()
    await calling.ask(cluster.far, cluster.call(1))
    waiting = asyncio.ensure_future(parent_does_the_rest(calling))
    await until(lambda: len(calling.session.pool.chunks) == 3 and not calling.session.pool.outstanding(""))
    if how == "stop":
        cluster.worker.stop()
    else:
        cluster.worker.links._links[PARENT].cut("as if the worker were gone")
    with pytest.raises(told):
        await asyncio.wait_for(waiting, PATIENCE)
    assert isinstance(cluster.here.why_over(), told)
    assert cluster.here.plane.held.count == 0
    with pytest.raises(NotAnswered):
        await calling.ask(cluster.far, cluster.call(1))


async def test_where_output_nodes_are_inside_a_chunk_counts_when_its_call_has_ended(cluster: Cluster) -> None:
    calling = await cluster.calling(saves=True)
    own = await calling.next()
    first = await calling.ask(cluster.far, cluster.call(1))
    again = await calling.ask(cluster.other, cluster.call(2))
    await helps(calling, cluster.far, cluster.call(1), first)
    await helps(calling, cluster.other, cluster.call(2), again)
    rest = asyncio.ensure_future(parent_does_the_rest(calling, own))
    # All results are here, and those of a call that is gone are made again: nobody knows what was saved.
    await until(lambda: len(calling.session._results) == 3)
    await cluster.push(1, "gone")
    await until(lambda: len(calling.session.pool.outstanding("")) == 0 and len(calling.session._results) == 3)
    assert not rest.done()
    await cluster.push(2, "ended", status="finished")
    assert _is_whole(await asyncio.wait_for(rest, PATIENCE))
    assert calling.session.counted() == {
        cluster.call(1): {"attempt": 2, "chunks": []},
        cluster.call(2): {"attempt": 1, "chunks": [again["chunk"]["index"]]},
    }


async def test_what_is_left_to_a_rank_that_is_late_the_parent_does_after_all(cluster: Cluster) -> None:
    """Though nothing is told of that rank: it is at work, and lives."""
    pool, now = Pool(40, 2, False), time.monotonic()
    session = Session(pool, ("in",), node="9")
    calling = await Calling.of(cluster.here, session, {"out": [torch.zeros(40, 1)]})
    own = pool.take("", now - 110)
    quick = pool.take("quick", now - 110)
    assert own is not None
    assert quick is not None
    pool.done(quick.index, "quick", now - 109.9)
    assert pool.take("quick", now) is not None
    late = await calling.next(own.index, {"in": [torch.zeros(own.items, 1)]})
    assert late.start == max(chunk.start for chunk in pool.chunks)
    assert pool.outstanding("quick")
    await parent_closes(calling)


@pytest.mark.parametrize("chosen", [None, ("w0", "w1", "w2", "w3", "w4")])
async def test_who_comes_while_items_are_left_is_called(
    cluster: Cluster, chosen: tuple[str, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfy_dist.calls.recruiting.RECRUIT_SECONDS", 0.01)
    workers, spread = cluster.worker.workers, Spread(workers=chosen)
    await cluster.here.thread.run(cluster.here.job())
    found = participants(workers, cluster.here.worker_id, spread, "9")
    recruiting = Recruiting(cluster.here, found, spread, {}, "9")
    session = Session(Pool(6, 3, ranked=False), ("in",), node="9", recruiting=recruiting)
    calling = await Calling.of(cluster.here, session, {"out": [WHOLE[:6]]})
    own = await calling.next()
    looks = len(cluster.worker.asked_for("peers")) + 3
    await until(lambda: len(cluster.worker.asked_for("peers")) >= looks)
    assert len(cluster.worker.sent) == 2, "nobody has come"
    workers.append({**workers[0], "id": "w3", "name": "w3"})
    await until(lambda: len(session.calls) == 3)
    (called,) = cluster.worker.sent[2:]
    assert (called["rank"], called["target"]) == (3, None if chosen is None else "w3")
    # It leaves, and another comes: that takes the call.
    del workers[-1]
    looks = len(cluster.worker.asked_for("peers")) + 3
    await until(lambda: len(cluster.worker.asked_for("peers")) >= looks)
    await helps(calling, cluster.far, "call-3", await calling.ask(cluster.far, "call-3"))
    assert _is_whole(await parent_does_the_rest(calling, own))
    assert "call-3" in session._results.doers.values()
    asked = len(cluster.worker.asked_for("peers"))
    await cluster.here.thread.run(cluster.here.ask("hello"))
    assert len(cluster.worker.asked_for("peers")) <= asked + 1, "nobody is looked for any more"


async def test_what_a_worker_says_that_was_taken_for_gone_harms_nobody_who_came_after(cluster: Cluster) -> None:
    calling = await cluster.calling(saves=True)
    own = await calling.next()
    await calling.ask(cluster.far, cluster.call(1))
    await cluster.push(1, "gone")
    await cluster.push(1, "started", 2)
    taken = await calling.ask(cluster.other, cluster.call(1), attempt=2)
    await cluster.push(1, "ended", 1, status="finished")
    rest = asyncio.ensure_future(parent_does_the_rest(calling, own))
    await helps(calling, cluster.other, cluster.call(1), taken, attempt=2)
    await cluster.push(1, "ended", 2, status="finished")
    assert _is_whole(await asyncio.wait_for(rest, PATIENCE))
    counted = calling.session.counted()[cluster.call(1)]
    assert counted["attempt"] == 2
    assert taken["chunk"]["index"] in counted["chunks"]


async def test_who_takes_a_call_that_has_ended_undoes_nothing(cluster: Cluster) -> None:
    calling = await cluster.calling(saves=True)
    own = await calling.next()
    first = await calling.ask(cluster.far, cluster.call(1))
    await helps(calling, cluster.far, cluster.call(1), first)
    await cluster.push(1, "ended", status="finished")
    again = await calling.ask(cluster.other, cluster.call(1), attempt=2)
    assert (again["chunk"], again["again"]) == (None, False)
    assert _is_whole(await parent_does_the_rest(calling, own))
    assert first["chunk"]["index"] in calling.session.counted()[cluster.call(1)]["chunks"]


async def test_a_rank_that_is_quicker_than_the_id_of_its_call_is_waited_for(cluster: Cluster) -> None:
    early: list[asyncio.Future[dict[str, Any]]] = []

    async def called(call: str) -> None:
        """The call is taken before its id is told."""
        peer = Peer.model_validate(cluster.worker.sent[0]["session"])
        question = {"call": call, "attempt": 1, "worker": "far"}
        early.append(asyncio.ensure_future(cluster.far.ask(peer, question, PATIENCE)))

    cluster.worker.taken = called
    calling = await cluster.calling()
    await until(lambda: len(early) == 2)
    assert {(await each)["chunk"]["index"] for each in early} == {0, 1}
    await parent_closes(calling)


async def test_nothing_is_left_of_hundreds_of_regions(cluster: Cluster) -> None:
    async def one(helped: bool) -> None:
        calling = await cluster.calling()
        own = await calling.next()
        if helped:
            await helps(calling, cluster.far, cluster.call(1), await calling.ask(cluster.far, cluster.call(1)))
        assert _is_whole(await parent_does_the_rest(calling, own))
        cluster.worker.asked.clear()

    def objects() -> int:
        gc.collect()
        return sum(type(each) in (Session, Pool, torch.Tensor, asyncio.Task) for each in gc.get_objects())

    for _ in range(20):
        await one(helped=True)
    before = objects()
    for number in range(240):
        await one(helped=number % 5 == 0)
    # What the last one has begun comes to its end beside it.
    await until(lambda: objects() <= before + 5)
    assert cluster.here.plane.held.count == 0
    assert cluster.far.held.count == 0
    assert not cluster.here._heard


@pytest.mark.parametrize("speed", [1e-310, -1.0, 0.0, 1e300, float("inf"), float("nan")])
async def test_a_speed_that_makes_no_sense_is_not_heeded(cluster: Cluster, speed: float) -> None:
    calling = await cluster.calling(ranked=False, items=24)
    answer = await calling.ask(cluster.far, cluster.call(1), speed=speed)
    assert answer["chunk"] is not None
    await helps(calling, cluster.far, cluster.call(1), answer)
    assert _is_whole(await parent_does_the_rest(calling), 24)


async def test_results_that_nobody_can_read_are_made_by_others(cluster: Cluster) -> None:
    calling = await cluster.calling(ranked=False, items=24)
    answer = await calling.ask(cluster.far, cluster.call(1))
    unreadable = {"$": "array", "tensor": {"$": "tensor", "dtype": "bfloat16", "shape": [1], "data": "AAA="}}
    done = {"chunk": answer["chunk"]["index"], "results": {"in": [unreadable]}}
    answer = await calling.ask(cluster.far, cluster.call(1), done)
    assert answer["chunk"] is not None
    await helps(calling, cluster.far, cluster.call(1), answer)
    assert _is_whole(await parent_does_the_rest(calling), 24)
