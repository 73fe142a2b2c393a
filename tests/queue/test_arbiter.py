"""How workers come to agree on who executes a job, and learn that it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import pytest

from comfy_dist.claims import Free, HeldBy, Void
from comfy_dist.errors import BrokerUnavailable
from comfy_dist.messages import (
    AttemptFailedFact,
    Call,
    CancelledFact,
    EndedFact,
    Fact,
    Job,
    JoinedFact,
    ReleasedFact,
    StartedFact,
    SurvivedFact,
)
from comfy_dist.transport import Transport
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.worker.arbiter import Arbiter
from tests.support.patience import PATIENCE

Join = Callable[[], Awaitable[Transport]]


@asynccontextmanager
async def arbiter(join: Join, worker: str, *, tells: bool = True) -> AsyncIterator[Arbiter]:
    """One that has caught up; without `tells` it says nothing of its own accord."""
    transport = await join()
    await transport.enlist(worker)
    made = Arbiter(transport, worker, max_attempts=3)
    tasks = [asyncio.create_task(made.run())]
    if tells:
        tasks.append(asyncio.create_task(made.tell()))
    try:
        async with asyncio.timeout(PATIENCE):
            await made.catch_up()
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until_ended(arbiter: Arbiter, job: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not arbiter.claims.has_ended(job):
            await asyncio.sleep(0.01)


async def test_of_two_rivals_one_executes(join: Join) -> None:
    async with arbiter(join, "a") as a, arbiter(join, "b") as b:
        verdicts = await asyncio.gather(a.claim("j"), b.claim("j"))
        assert sorted(map(type, verdicts), key=str) == [Free, HeldBy]


async def test_the_next_claim_tells_what_has_ended(join: Join) -> None:
    async with arbiter(join, "a", tells=False) as a, arbiter(join, "b") as b:
        assert await a.claim("j") == Free(1)
        a.ended("j")
        assert await b.claim("j") == HeldBy("a")
        assert await a.claim("k") == Free(1)
        await until_ended(b, "j")
        assert await b.claim("j") == Void()


async def test_who_had_it_without_a_claim_comes_too_late(join: Join) -> None:
    async with arbiter(join, "a") as a, arbiter(join, "b") as b:
        assert await b.claim("j", least=2) == Free(2)
        assert await a.claim("j") == HeldBy("b")


async def test_the_end_of_what_nobody_knows_is_told_to_nobody_before_it_is_cancelled(join: Join) -> None:
    async with arbiter(join, "a") as a, arbiter(join, "b") as b:
        a.ended_unclaimed("j")
        assert await a.claim("k") == Free(1)
        a.ended_unclaimed("k")
        await until_ended(b, "k")
        assert not b.claims.has_ended("j")
        transport = await join()
        await transport.append_fact(CancelledFact(job="j", by="its region is done"))
        await until_ended(b, "j")
        assert not b.claims.knows("j")


async def test_without_a_next_claim_the_end_is_told_all_the_same(join: Join) -> None:
    async with arbiter(join, "a") as a, arbiter(join, "b") as b:
        assert await a.claim("j") == Free(1)
        a.ended("j")
        await until_ended(b, "j")


async def test_who_ended_a_job_never_begins_it_again(join: Join) -> None:
    async with arbiter(join, "a", tells=False) as a:
        assert await a.claim("j") == Free(1)
        a.ended("j")
        assert await a.claim("j") == Void()


async def test_an_end_is_told_once(join: Join) -> None:
    async with arbiter(join, "a", tells=False) as a:
        await a.claim("j")
        a.ended("j")
        await a.claim("k")
        await a.claim("l")
        await a.tell_now()
        await a.catch_up()
        told = await facts_until_joined_again(await join())
    claims = [(fact.job, fact.ended) for fact in told if isinstance(fact, StartedFact)]
    assert claims == [("j", ()), ("k", ("j",)), ("l", ())]
    assert len(told) == 3


async def facts_until_joined_again(transport: Transport) -> list[Fact]:
    """What stands between the first two `joined` facts of the stream."""
    found: list[Fact] = []
    async with asyncio.timeout(PATIENCE), aclosing(transport.facts()) as reading:  # type: ignore[type-var]
        async for fact in reading:
            if isinstance(fact, JoinedFact) and found:
                break
            if not isinstance(fact, JoinedFact):
                found.append(fact)
    return found


async def test_a_job_is_in_the_hand_of_one_engine_at_a_time(join: Join) -> None:
    async with arbiter(join, "a") as a:
        assert a.take_in_hand("j")
        assert not a.take_in_hand("j")
        a.let_go("j")
        assert a.take_in_hand("j")


async def test_who_gives_a_job_back_knows_it_when_the_job_comes_again() -> None:
    """Another engine of the worker may get it before the stream has told."""
    arbiter = Arbiter(MemoryTransport(MemoryBroker()), "a", max_attempts=3)
    arbiter.claims.fold(StartedFact(job="j", worker="a", attempt=1))
    await arbiter.give_up(ReleasedFact(job="j", worker="a", attempt=1))
    assert arbiter.claims.verdict("j", gone=frozenset(), max_attempts=3) == Free(2)


async def test_a_claim_that_does_not_come_back_is_made_again_and_is_the_same_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the stream was deleted in between nobody would ever tell."""
    monkeypatch.setattr("comfy_dist.worker.arbiter.READ_SECONDS", 0.05)
    arbiter = Arbiter(MemoryTransport(MemoryBroker()), "a", max_attempts=3)
    with pytest.raises(BrokerUnavailable, match="prompt j did not come back"):
        await arbiter.claim("j")
    monkeypatch.undo()
    reading = asyncio.create_task(arbiter.run())
    assert await asyncio.wait_for(arbiter.claim("j"), PATIENCE) == Free(1)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


_TAKEN = StartedFact(job="parent", worker="w", attempt=1)


@pytest.mark.parametrize(
    ("facts", "unwanted"),
    [
        ([], False),
        ([_TAKEN], False),
        ([_TAKEN, SurvivedFact(job="parent", worker="w", attempt=1)], False),
        ([_TAKEN, CancelledFact(job="another", by="c"), EndedFact(job="another")], False),
        ([_TAKEN, EndedFact(job="parent")], True),
        ([_TAKEN, CancelledFact(job="parent", by="c")], True),
        ([_TAKEN, ReleasedFact(job="parent", worker="w", attempt=1)], True),
        ([_TAKEN, AttemptFailedFact(job="parent", worker="w", attempt=1, reason="it died")], True),
        ([_TAKEN, StartedFact(job="parent", worker="v", attempt=2)], True),
        # What lies between has not stopped yet.
        ([_TAKEN, CancelledFact(job="root", by="c")], True),
        ([_TAKEN, EndedFact(job="root")], True),
    ],
)
def test_nobody_waits_for_a_call_once_what_sent_it_is_over(facts: list[Fact], unwanted: bool) -> None:
    arbiter = Arbiter(MemoryTransport(MemoryBroker()), "w", max_attempts=3)
    for fact in facts:
        arbiter.claims.fold(fact)
    about = Call(parent="parent", attempt=1, root="root", home="w", worker="w")
    assert arbiter.is_unwanted(Job(id="call", prompt={}, call=about)) is unwanted
    assert not arbiter.is_unwanted(Job(id="root", prompt={}))
