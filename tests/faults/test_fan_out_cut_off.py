"""Workers that stop, or are cut off, while they share a graph: what they say late counts for nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.cluster.conftest import Cluster
from tests.faults.fleet import Fleet, shared, undivided
from tests.support.rabbitmq import Rabbit
from tests.support.talking import node
from tests.support.wire import Wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Of a worker's engine: nobody is there.
ELSEWHERE = "http://127.0.0.99:9"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wire(cluster: Cluster) -> AsyncIterator[Wire]:
    async with Wire(cluster.uri) as wire:
        yield wire


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started(cluster: Cluster, wire: Wire) -> AsyncIterator[Fleet]:
    """Worker 1 hangs on the wire, and the broker soon notices its silence; to worker 3 no direct way leads."""
    # A silent peer is given up after two of these.
    on_the_wire = ("--distributed-queue-connection-uri", f"{wire.uri}?heartbeat=1")
    elsewhere = ("--tensor-listen", "127.0.0.1", "--tensor-advertise", ELSEWHERE)
    async with aiohttp.ClientSession() as session:
        fleet = await asyncio.to_thread(Fleet, cluster, 4, session, {1: on_the_wire, 3: elsewhere})
        yield fleet
        fleet.write_logs()


@pytest_asyncio.fixture(loop_scope="module")
async def fleet(started: Fleet) -> Fleet:
    """All there and idle."""
    await started.gather()
    return started


async def test_what_a_rank_says_that_was_stopped_for_long_is_dropped(fleet: Fleet) -> None:
    place = fleet.place()
    prompt_id = await fleet.begun(place)
    fleet.signal(1, signal.SIGSTOP)
    try:
        # Another goes on with what the stopped one had: the parent, or who has its call then.
        place.leave("go-2")
        place.leave("once-0")
        await place.until_others_come(1, times=3)
    finally:
        fleet.signal(1, signal.SIGCONT)
    place.spoil(1)
    place.leave("go-1")
    # As another has it now; it has claimed it itself only where it had it for long.
    await asyncio.to_thread(fleet.workers[1].wait_for, f"{fleet.begun_last(1)} (is given up|finished)")
    place.leave()
    await fleet.assert_right(prompt_id)


async def test_a_parent_that_was_stopped_loses_nothing_that_its_ranks_made_meanwhile(fleet: Fleet) -> None:
    place = fleet.place()
    prompt_id = await fleet.begun(place)
    fleet.signal(0, signal.SIGSTOP)
    try:
        place.leave("once-1")
        place.leave("once-2")

        async def gone() -> bool:
            return not (place.at / "once-1").exists() and not (place.at / "once-2").exists()

        await fleet.client.until(gone)
    finally:
        fleet.signal(0, signal.SIGCONT)
    place.leave("go-0")
    await fleet.assert_right(prompt_id)


async def test_engines_that_no_direct_way_leads_to_are_reached_through_the_broker(fleet: Fleet) -> None:
    for parent, seed in ((3, 71), (0, 72)):
        place = fleet.place()
        prompt_id = await fleet.post(shared(place.at, batch=9, world=4, seed=seed), parent)
        await place.until_come(0, 1, 2, 3)
        place.leave()
        await fleet.assert_right(prompt_id, batch=9, seed=seed)

        async def told() -> bool:
            others = (fleet.workers[number] for number in range(3))
            return any(f"{ELSEWHERE} cannot be reached" in worker.log for worker in others)

        await fleet.client.until(told)


async def test_a_rank_that_is_cut_off_from_the_broker_hands_in_what_it_has(fleet: Fleet, wire: Wire) -> None:
    """It says nothing of its end until it is back, and nobody waits for that."""
    place = fleet.place()
    prompt_id = await fleet.begun(place)
    wire.cut()
    await asyncio.to_thread(fleet.workers[1].wait_for, "was lost; connecting again")
    place.leave()
    await fleet.assert_right(prompt_id)
    wire.mend()


async def test_what_a_rank_says_that_was_cut_off_for_long_is_dropped(fleet: Fleet, wire: Wire) -> None:
    """What it showed, too, though it ends before the prompt does."""
    place, end = fleet.place(), fleet.place()
    prompt = shared(place.at, seed=5)
    prompt["shown"] = node("DistShow", value=["work", 0])
    prompt["end"] = node("FaultHold", value=["in", 0], at=str(end.at))
    prompt["digest"] = node("DistDigest", value=["end", 0])
    prompt_id = await fleet.post(prompt)
    await place.until_come(0, 1, 2)
    wire.cut()
    # Of the others the parent alone goes on, when the one that is cut off is given up, with what that had.
    place.leave("go-2")
    place.leave("once-0")
    await place.until_come(0, times=2)
    place.spoil(1)
    place.leave("go-1")
    await asyncio.to_thread(fleet.workers[1].wait_for, f"{fleet.begun_last(1)} finished")
    wire.mend()
    place.leave()
    await end.until_come(0)
    # Its end comes before the prompt's.
    await fleet.until_idle(1)
    end.leave()
    ran = await fleet.ended(prompt_id)
    assert ran.status == "success", ran.error
    alone = undivided(seed=5) | {"shown": node("DistShow", value=["work", 0])}
    assert ran.outputs == (await fleet.run(alone)).outputs


async def test_a_restart_of_the_broker_in_the_middle_costs_nothing(fleet: Fleet, rabbit: Rabbit) -> None:
    place = fleet.place()
    prompt_id = await fleet.begun(place)
    await asyncio.to_thread(rabbit.stop)
    place.leave()
    await asyncio.to_thread(rabbit.start)
    await fleet.assert_right(prompt_id)


async def test_all_that_was_cut_off_or_stopped_works_on(fleet: Fleet) -> None:
    await fleet.assert_well()
