"""Where others are to do the work of a region, others are found for what those who were called leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from comfy_dist.calls import attendance, share_pool
from comfy_dist.calls.attendance import FALLING_BACK, Attendance
from comfy_dist.calls.errors import RankFailed
from comfy_dist.calls.here import Here
from comfy_dist.calls.offered import Offered
from comfy_dist.calls.participants import Invitation, NobodyElse
from comfy_dist.calls.session import Session
from comfy_dist.calls.share_pool import Share, SharePool
from comfy_dist.calls.shares import Pool
from comfy_dist.messages import Participation, Peer, Spread
from comfy_dist.tensors.plane import Plane
from tests.calls.processes import PARENT, Calling, Worker, a_worker, until
from tests.support.patience import PATIENCE
from tests.tensors.planes import SERVED

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORCHESTRATOR, FALLBACK = Participation.ORCHESTRATOR_ONLY, Participation.FALLBACK


@dataclass
class Place:
    """A parent that does nothing itself, and the plane of one that helps. w1 and w2 are the others."""

    worker: Worker
    here: Here
    plane: Plane
    said: list[str] = field(default_factory=list)
    parent: asyncio.Future[Any] | None = None

    async def calling(self, pool: SharePool | Pool, participation: Participation) -> Calling:
        here = self.here

        async def opened() -> Calling:
            job = await here.job()
            spread = Spread(participation=participation)
            attends = Attendance(here, "w0", spread, {}, "9", parent=False, say=self.said.append)
            session = Session(pool, ("in",), node="9", attendance=attends)
            peer = session.open(here, job, Offered(here.plane, session.id, {}, {}))
            shares = [1, 2] if isinstance(pool, SharePool) else [None, None]
            await session.invite(
                {"session": peer},
                [Invitation(f"w{rank}", rank, share) for rank, share in zip((1, 2), shares, strict=True)],
            )
            return Calling(here, job, session, Peer.model_validate(peer))

        made = await here.thread.run(opened())
        self.parent = asyncio.ensure_future(made.next())
        await until(lambda: len(self.worker.sent) == 2)
        return made

    def go(self, *names: str) -> None:
        """Those workers are there no more."""
        self.worker.workers = [each for each in self.worker.workers if each["name"] not in names]

    async def works(self, calling: Calling, call: str) -> list[int]:
        """What a call is given until it is sent home."""
        did: list[int] = []
        answer = await calling.ask(self.plane, call)
        while answer["chunk"] is not None or answer["again"]:
            done = None
            if answer["chunk"] is not None:
                did.append(answer["chunk"]["index"])
                done = {"chunk": did[-1], "results": {"in": self.plane.pack([f"of {did[-1]}"], "rank")}}
            answer = await calling.ask(self.plane, call, done)
        return did


@pytest_asyncio.fixture(loop_scope="module")
async def place(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr(attendance, "ATTEND_SECONDS", 0.05)
    # However long it takes here that somebody begins.
    monkeypatch.setattr(share_pool, "WAITS_SECONDS", 1e9)
    plane = Plane(SERVED | {"via": "far/0"})
    async with a_worker() as worker, worker.process(PARENT) as here:
        made = Place(worker, here, plane)
        yield made
        worker.stop()
        if made.parent is not None:
            await asyncio.wait([made.parent], timeout=PATIENCE)
            # Taken notice of, if only here.
            made.parent.cancelled() or made.parent.exception()
    plane.close()


def two() -> SharePool:
    return SharePool([Share(1, "w1", "w1"), Share(2, "w2", "w2")])


async def test_each_does_its_own_and_the_parent_nothing(place: Place) -> None:
    calling = await place.calling(two(), ORCHESTRATOR)
    assert await place.works(calling, "call-2") == [2]
    assert await place.works(calling, "call-1") == [1]
    assert place.parent is not None
    assert await place.parent is None
    assert calling.session.results() == {"in": [["of 1"], ["of 2"]]}
    assert len(place.worker.sent) == 2


async def test_for_one_that_is_gone_before_it_began_another_is_called(place: Place) -> None:
    calling = await place.calling(two(), ORCHESTRATOR)
    assert await place.works(calling, "call-2") == [2]
    place.worker.push("call-2", "ended", status="finished")
    place.go("w1")
    await until(lambda: len(place.worker.sent) == 3)
    assert place.worker.sent[2]["target"] == "w2"
    assert await place.works(calling, "call-3") == [1]
    assert place.parent is not None
    assert await place.parent is None
    assert calling.session.results() == {"in": [["of 1"], ["of 2"]]}


async def test_the_share_of_one_that_is_busy_is_anybodys_unless_it_is_busy_with_that(place: Place) -> None:
    pool = two()
    calling = await place.calling(pool, ORCHESTRATOR)
    place.worker.push("call-2", "started", attempt=1, worker="w2")
    place.worker.workers = [each | {"state": "busy"} for each in place.worker.workers]
    await until(lambda: pool.free(0.0) == [1])
    assert await place.works(calling, "call-2") == [2, 1]
    place.worker.push("call-2", "ended", status="finished")
    assert place.parent is not None
    assert await place.parent is None


async def test_a_divided_batch_is_gone_on_with_by_who_is_left(place: Place) -> None:
    calling = await place.calling(Pool(4, 2, ranked=True), ORCHESTRATOR)
    answer = await calling.ask(place.plane, "call-1")
    assert answer["chunk"]["index"] == 0
    assert await place.works(calling, "call-2") == [1]
    place.worker.push("call-2", "ended", status="finished")
    place.go("w1")
    place.worker.push("call-1", "gone")
    await until(lambda: len(place.worker.sent) == 3)
    assert await place.works(calling, "call-3") == [0]
    assert place.parent is not None
    assert await place.parent is None


async def test_without_others_it_falls_back_and_says_so(place: Place) -> None:
    calling = await place.calling(two(), FALLBACK)
    place.go("w1", "w2")
    assert place.parent is not None
    chunk = await asyncio.wait_for(place.parent, PATIENCE)
    while chunk is not None:
        chunk = await calling.next(chunk.index, {"in": [f"own {chunk.index}"]})
    assert calling.session.results() == {"in": [["own 1"], ["own 2"]]}
    assert place.said == [FALLING_BACK]


async def test_without_others_an_orchestrator_fails_when_none_comes_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendance, "ALONE_SECONDS", 0.2)
    await place.calling(two(), ORCHESTRATOR)
    place.go("w1", "w2")
    assert place.parent is not None
    with pytest.raises(NobodyElse, match="node 9"):
        await asyncio.wait_for(place.parent, PATIENCE)


@pytest.mark.parametrize("kind", ["comfy_dist.tensors.errors.CannotTravel", "EngineDied"])
async def test_what_cannot_travel_or_kills_engines_fails_an_orchestrator(place: Place, kind: str) -> None:
    """Whoever is called makes the same again."""
    calling = await place.calling(Pool(4, 2, ranked=True), ORCHESTRATOR)
    await calling.ask(place.plane, "call-1")
    why = {"node_id": "5", "node_type": "Load", "exception_message": "result is a Model, which only …"}
    error = why | {"exception_type": kind}
    # After all of its attempts.
    place.worker.push("call-1", "gone", attempt=1)
    place.worker.push("call-1", "ended", status="failed", error=error, attempt=2)
    assert place.parent is not None
    with pytest.raises(RankFailed, match=r"at node 5 \(Load\): result is a Model"):
        await asyncio.wait_for(place.parent, PATIENCE)


@pytest.mark.parametrize("how", ["to it", "from it"])
async def test_where_results_never_get_here_an_orchestrator_calls_others_for_a_while(
    place: Place, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(attendance, "ALONE_SECONDS", 1e9)
    calling = await place.calling(Pool(1, 1, ranked=True), ORCHESTRATOR)
    assert place.parent is not None
    served: list[str] = []
    async with asyncio.timeout(PATIENCE):
        while not place.parent.done():
            await until(lambda: place.parent.done() or len(place.worker.sent) > len(served))
            call = f"call-{len(served) + 1}"
            served.append(call)
            if len(served) == 3:
                # Long enough for a while.
                monkeypatch.setattr(attendance, "ALONE_SECONDS", 0.0)
            if how == "to it":
                error = {"exception_type": "x.NotPulled", "exception_message": "no way leads there"}
                place.worker.push(call, "ended", status="failed", error=error)
            else:
                answer = await calling.ask(place.plane, call)
                done = {"chunk": 0, "results": {"in": "no list"}}
                while answer["chunk"] or answer["again"]:
                    answer = await calling.ask(place.plane, call, done if answer["chunk"] else None)
                place.worker.push(call, "ended", status="finished")
    with pytest.raises(
        RankFailed, match="no way leads there" if how == "to it" else "rank . on worker far has made"
    ):
        await place.parent
    assert len(served) >= 3


async def test_whom_it_waits_for_is_told_and_two_that_wait_for_each_other_do_not(place: Place) -> None:
    calling = await place.calling(two(), ORCHESTRATOR)
    await until(lambda: {"node": "9", "workers": ["w1", "w2"]} in place.worker.asked_for("waits"))
    assert await place.works(calling, "call-2") == [2]
    place.worker.push("call-2", "ended", status="finished")
    await until(lambda: {"node": "9", "workers": ["w1"]} in place.worker.asked_for("waits"))
    assert not place.worker.asked_for("give_way")
    place.worker.workers = [
        {**each, "waits_for": {"w0": ["w1"], "w1": ["w0"]}.get(each["name"], [])} for each in place.worker.workers
    ]
    await until(lambda: bool(place.worker.asked_for("give_way")))
