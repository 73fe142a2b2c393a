"""Routes are remembered while a job is on them, be it in somebody's hands, and forgotten afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext

import pytest

from comfy_dist.messages import Catalogue, Job, Requirements, Route, RouteFact
from comfy_dist.routing import Offer
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.worker.routes import Routes
from tests.support.patience import PATIENCE

FAST = Route(requirements=Requirements(tags=("fast",)))
OFFER = Offer(worker="w", catalogue=Catalogue(hash="h", kind="k", nodes={}), tags=frozenset({"fast"}))
REVIEW_SECONDS = 0.4


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
async def workers(broker: MemoryBroker) -> AsyncIterator[tuple[Routes, Routes]]:
    """Two that review their routes."""
    both = tuple(Routes(MemoryTransport(broker), int, REVIEW_SECONDS) for _ in range(2))

    async def follow(routes: Routes) -> None:
        async for fact in MemoryTransport(broker).facts():
            routes.fold(fact)

    tasks = [asyncio.create_task(part) for each in both for part in (follow(each), each.keep())]
    yield both[0], both[1]
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_so():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("held", [True, False], ids=["in-hand", "waiting"])
async def test_a_route_is_told_of_again_while_a_job_is_on_it(
    broker: MemoryBroker, workers: tuple[Routes, Routes], held: bool
) -> None:
    one, other = workers
    transport = MemoryTransport(broker)
    facts = transport.facts()
    job = Job(id="j", prompt={})
    await transport.submit(job, FAST)
    taker = transport.taker()
    taker.serve([FAST])
    if held:
        await taker.take()
    with one.holding(FAST) if held else nullcontext():
        async with asyncio.timeout(PATIENCE):
            assert [await anext(facts) for _ in range(4)] == [RouteFact(route=FAST)] * 4
        await until(lambda: other.served(OFFER) == one.served(OFFER) == (FAST,))
    await facts.aclose()


async def test_a_route_of_which_nobody_tells_any_more_is_forgotten(
    workers: tuple[Routes, Routes],
) -> None:
    for routes in workers:
        routes.fold(RouteFact(route=FAST))
        assert routes.served(OFFER) == (FAST,)
    for routes in workers:
        await until(lambda routes=routes: routes.served(OFFER) == ())  # type: ignore[misc]


async def test_a_route_that_is_taken_from_when_it_is_old_is_told_of_at_once() -> None:
    """By then others may be about to look, and would see nothing waiting."""
    broker = MemoryBroker()
    # The next review is hours away.
    routes = Routes(MemoryTransport(broker), int, review := 1e6)
    routes.fold(RouteFact(route=FAST))
    routes._told[FAST] -= review * 0.6
    keeping = asyncio.create_task(routes.keep())
    facts = MemoryTransport(broker).facts()
    with routes.holding(FAST):
        assert await asyncio.wait_for(anext(facts), PATIENCE) == RouteFact(route=FAST)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
