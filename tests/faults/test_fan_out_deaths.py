"""Workers and engines that die while they share a graph: its result is what one worker makes of it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.cluster.conftest import Cluster
from tests.distributed.graphs import upscale
from tests.faults.fleet import PIXELS, Fleet, shared
from tests.support.patience import PATIENCE
from tests.support.talking import node

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started(cluster: Cluster) -> AsyncIterator[Fleet]:
    async with aiohttp.ClientSession() as session:
        fleet = await asyncio.to_thread(Fleet, cluster, 3, session)
        yield fleet
        fleet.write_logs()


@pytest_asyncio.fixture(loop_scope="module")
async def fleet(started: Fleet) -> Fleet:
    """All there and idle."""
    await started.gather()
    return started


async def test_a_rank_whose_worker_is_killed_in_the_middle_is_done_by_others(fleet: Fleet) -> None:
    place = fleet.place()
    prompt_id = await fleet.begun(place)
    fleet.kill(1)
    place.leave()
    await fleet.assert_right(prompt_id)


async def test_a_worker_killed_before_it_took_a_chunk_costs_nothing(fleet: Fleet) -> None:
    """Another prompt keeps it from coming; both of them begin anew where they must."""
    place, elsewhere = fleet.place(), fleet.place()
    busy = await fleet.post(
        {
            "text": node("PrimitiveString", value=str(elsewhere.at)),
            "gate": node("TestGate", path=str(elsewhere.at / "go"), value=["text", 0]),
            "sink": node("TestSink", value=["gate", 0]),
        },
        None,
    )
    victim = await fleet.executing(busy)
    parent = next(number for number in fleet.workers if number != victim)
    prompt_id = await fleet.post(shared(place.at), parent)
    await place.until_come(*(number for number in fleet.workers if number != victim))
    fleet.kill(victim)
    elsewhere.leave()
    place.leave()
    await fleet.assert_right(prompt_id)
    assert (await fleet.ended(busy)).status == "success"


@pytest.mark.parametrize("participation", ["participating", "orchestrator-only"])
async def test_a_killed_workers_share_is_done_by_another_with_its_seed(fleet: Fleet, participation: str) -> None:
    """By one that may do one: an orchestrator calls another for it, as all have gone home."""
    place = fleet.place()
    prompt = {
        "seed": node("DistributedSeed", seed=10),
        "image": node("FaultImages", batch=1, size=PIXELS, seed=["seed", 0]),
        "hold": node("FaultHold", value=["image", 0], at=str(place.at)),
        "collect": node("DistributedCollector", images=["hold", 0], load_balance=False),
        "digest": node("DistDigest", value=["collect", 0]),
    }
    others = (0, 1, 2) if participation == "participating" else (1, 2)
    chosen = [fleet.names[number] for number in (0, 1, 2)]
    prompt_id = await fleet.post(prompt, distributed={"participation": participation, "workers": chosen})
    await place.until_come(*others)
    fleet.kill(1)
    place.leave()
    ran = await fleet.ended(prompt_id)
    assert ran.status == "success", ran.error
    by_hand = {
        f"image {seed}": node("FaultImages", batch=1, size=PIXELS, seed=seed)
        for seed in (10, 11, 12)[-len(others) :]
    }
    by_hand["both"] = node("ImageBatch", image1=["image 11", 0], image2=["image 12", 0])
    whole = "both"
    if 0 in others:
        by_hand["all"] = node("ImageBatch", image1=["image 10", 0], image2=["both", 0])
        whole = "all"
    expected = await fleet.run(by_hand | {"digest": node("DistDigest", value=[whole, 0])}, None)
    assert ran.outputs == expected.outputs
    assert participation == "participating" or not place.come()[0]


async def test_results_that_die_before_they_are_pulled_are_made_again(fleet: Fleet) -> None:
    """The rank has told the parent of them, which is just about to have them."""
    place = fleet.place()
    prompt = shared(place.at)
    died = place.at / "died"
    prompt["dies"] = node("FaultDieWhenPulled", value=["work", 0], worker=1, died=str(died))
    prompt["in"] = node("ClusterFanInImages", input=["dies", 0])
    prompt_id = await fleet.post(prompt)
    await place.until_come(0, 1, 2)
    place.leave("go-1")
    await asyncio.to_thread(fleet.workers[1].process.wait, PATIENCE)
    assert died.exists()
    fleet.start(1)
    place.leave()
    await fleet.assert_right(prompt_id)


async def test_the_tiles_of_a_killed_worker_are_refined_by_others(fleet: Fleet) -> None:
    place = fleet.place()
    prompt_id = await fleet.post(upscale(3, place.at, held=True))
    await place.until_come(0, 1, 2)
    fleet.kill(1)
    place.leave()
    ran = await fleet.ended(prompt_id)
    assert ran.status == "success", ran.error
    alone = await fleet.run(upscale(1))
    assert ran.outputs == alone.outputs
    assert ran.outputs["digest"]["digest"]


async def test_a_rank_whose_engine_is_killed_is_done_by_others(fleet: Fleet) -> None:
    place = fleet.place()
    prompt_id = await fleet.begun(place)
    fleet.engine(1).kill()
    place.leave("go-0")
    place.leave("go-2")
    # Nobody lets that worker go: it is done without what its next engine takes up.
    await fleet.assert_right(prompt_id)


async def test_the_job_of_a_parent_whose_engine_is_killed_begins_anew(fleet: Fleet) -> None:
    """With other calls: whoever still held for the first ones is let go by nobody, and stops."""
    place = fleet.place()
    prompt_id = await fleet.begun(place)
    fleet.engine(0).kill()
    await place.until_come(0, 1, 2, times=2)
    place.leave()
    await fleet.assert_right(prompt_id)


async def test_the_job_of_a_killed_parent_is_done_by_another_worker(fleet: Fleet) -> None:
    place = fleet.place()
    prompt_id = await fleet.post(shared(place.at), None)
    await place.until_come(0, 1, 2)
    parent = await fleet.executing(prompt_id)
    others = [number for number in fleet.workers if number != parent]
    fleet.kill(parent)
    await place.until_come(*others, times=2)
    place.leave()
    await fleet.assert_right(prompt_id)


async def test_eight_jobs_that_fan_out_by_eight_all_end_though_a_worker_is_killed(fleet: Fleet) -> None:
    places = [fleet.place() for _ in range(8)]
    prompts = [shared(place.at, batch=8, world=2, seed=n) for n, place in enumerate(places)]
    ids = [await fleet.post(prompt, None) for prompt in prompts]

    async def held() -> bool:
        return any(place.come()[1] for place in places)

    await fleet.client.until(held)
    fleet.kill(1)
    for place in places:
        place.leave()
    for n, prompt_id in enumerate(ids):
        await fleet.assert_right(prompt_id, batch=8, seed=n)


async def test_an_interrupt_stops_ranks_that_learn_of_it_from_the_broker(fleet: Fleet) -> None:
    place = fleet.place()
    prompt_id = await fleet.begun(place)

    async def runs() -> bool:
        return await fleet.client.queue() == ({prompt_id}, set())

    # The frontend knows what it is to interrupt, and that nobody is idle yet.
    await fleet.client.until(runs)
    await fleet.until_busy()
    began = time.monotonic()
    await fleet.client.ask("POST", "/interrupt", {"prompt_id": prompt_id})
    await fleet.until_idle()
    print(f"all idle {time.monotonic() - began:.3f} s after the interrupt")
    entry = await fleet.client.in_history(prompt_id)
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"
    assert place.come() == {0: 1, 1: 1, 2: 1}


async def test_all_that_died_is_replaced_and_works(fleet: Fleet) -> None:
    await fleet.assert_well()


async def test_ranks_that_are_told_to_stop_finish_what_they_have_or_give_it_back(fleet: Fleet) -> None:
    place = fleet.place()
    prompt_id = await fleet.begun(place)
    once, twice = fleet.workers[1], fleet.workers[2]
    once.process.send_signal(signal.SIGTERM)
    twice.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(twice.wait_for, "stops as soon as")
    assert await asyncio.to_thread(twice.stop, signal.SIGTERM) == 0
    assert once.process.poll() is None
    place.leave("go-1")
    assert await asyncio.to_thread(once.process.wait, PATIENCE) == 0
    place.leave()
    await fleet.assert_right(prompt_id)
    for process in (once, twice, fleet.workers[0]):
        assert "Traceback" not in process.log
