"""Paused workers finish what they have and take no more, whoever is started again meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from comfy_dist.messages import PausedFact
from comfy_dist.transport import Transport
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.worker.pausing import Pausing
from tests.support.in_process import Cluster, in_process, prompt
from tests.support.patience import PATIENCE
from tests.support.talking import Frontend


@pytest.fixture
async def cluster(tmp_path: Path, join: Callable[[], Transport]) -> AsyncIterator[Cluster]:
    async with in_process(tmp_path, join) as cluster:
        yield cluster


async def workers(comfy: Frontend, *names: str, paused: str = "") -> dict[str, dict[str, Any]]:
    """The workers by name, once they are just these, up, and those of `paused` are paused and no other."""

    def as_wanted(answer: dict[str, Any]) -> list[dict[str, Any]]:
        found = {each["name"]: each for each in answer["workers"] if each["state"] != "starting"}
        said = {name for name, each in found.items() if each["paused"]}
        return [found] if sorted(found) == sorted(names) and said == set(paused.split()) else []

    found: dict[str, dict[str, Any]]
    (found,) = await comfy.wait(as_wanted, "/distributed/workers")
    await comfy.wait(lambda nodes: "Quick" in nodes, "/object_info")
    return found


async def run(comfy: Frontend, class_type: str = "Quick") -> str:
    id_ = await comfy.prompt(prompt(class_type))
    await comfy.ended(id_)
    return id_


async def test_a_paused_cluster_finishes_what_it_has_and_begins_nothing(cluster: Cluster) -> None:
    a, _ = await cluster.frontend("a")
    b, _ = await cluster.frontend("b")
    for name in ("v", "w"):
        await cluster.worker(name)
    for comfy in (a, b):
        await workers(comfy, "v", "w")
    busy = await a.prompt(prompt("Wait"))
    await a.running(busy)
    answer = await b.post("/distributed/pause")
    assert len(answer["paused"]) == 2
    waiting = [await a.prompt(prompt("Quick")) for _ in range(3)]
    found = await workers(b, "v", "w", paused="v w")
    assert sorted(each["state"] for each in found.values()) == ["busy", "idle"]
    await a.post("/interrupt", {"prompt_id": busy})
    await a.ended(busy)
    # One that starts now is paused from its first moment.
    await cluster.worker("x")
    await workers(a, "v", "w", "x", paused="v w x")
    for comfy in (a, b):
        await comfy.wait(lambda queue: len(queue["queue_pending"]) == 3, "/queue")
    assert [job for _, job in cluster.stage.executed] == [busy]
    await a.post("/distributed/resume")
    for id_ in waiting:
        await b.ended(id_)
    await workers(b, "v", "w", "x")
    # Each once.
    assert sorted(job for _, job in cluster.stage.executed) == sorted([busy, *waiting])


async def test_nothing_is_begun_or_lost_when_a_pause_comes_between_jobs(cluster: Cluster) -> None:
    comfy, _ = await cluster.frontend("a")
    for name in ("v", "w"):
        await cluster.worker(name)
    await workers(comfy, "v", "w")
    accepted: list[str] = []
    for _ in range(3):
        posting = [asyncio.create_task(comfy.prompt(prompt("Quick"))) for _ in range(15)]
        await comfy.post("/distributed/pause")
        accepted += await asyncio.gather(*posting)
        await workers(comfy, "v", "w", paused="v w")
        begun = [job for _, job in cluster.stage.executed]
        accepted.append(await comfy.prompt(prompt("Quick")))
        rest = set(accepted) - set(begun)
        await comfy.wait(lambda queue, rest=rest: {item[1] for item in queue["queue_pending"]} == rest, "/queue")
        assert [job for _, job in cluster.stage.executed] == begun
        await comfy.post("/distributed/resume")
        for id_ in accepted:
            await comfy.ended(id_)
        # Told of the end of this pause, too, one knows when the next one has begun.
        await workers(comfy, "v", "w")
    # What was given back had not begun.
    assert sorted(job for _, job in cluster.stage.executed) == sorted(accepted)


async def test_one_worker_is_paused_by_name_over_its_restart(cluster: Cluster) -> None:
    comfy, _ = await cluster.frontend("a")
    v = await cluster.worker("v")
    await cluster.worker("w")
    await workers(comfy, "v", "w")
    await comfy.post("/distributed/pause", {"worker": "v"})
    await workers(comfy, "v", "w", paused="v")
    for _ in range(4):
        await run(comfy)
    assert {worker for worker, _ in cluster.stage.executed} == {"w"}
    await v.stop()
    await workers(comfy, "w")
    await cluster.worker("v")
    await workers(comfy, "v", "w", paused="v")
    # Its id is as good as its name to end that.
    again = (await workers(comfy, "v", "w", paused="v"))["v"]["id"]
    await comfy.post(f"/distributed/workers/{again}", {"enabled": True})
    await workers(comfy, "v", "w")


async def test_a_pause_by_id_ends_with_that_start_of_the_worker(cluster: Cluster) -> None:
    comfy, _ = await cluster.frontend("a")
    twins = [await cluster.worker("v") for _ in range(2)]
    await comfy.wait(
        lambda found: len([w for w in found["workers"] if w["state"] == "idle"]) == 2, "/distributed/workers"
    )
    first = twins[0].worker.id
    answer = await comfy.ask("POST", "/distributed/workers/v", json={"enabled": False})
    assert answer.status == 409
    assert first in answer.error["message"]
    await comfy.post(f"/distributed/workers/{first}", {"enabled": False})
    await comfy.wait(
        lambda found: [w["id"] for w in found["workers"] if w["paused"]] == [first], "/distributed/workers"
    )
    await twins[0].stop()
    await cluster.worker("v")
    await comfy.wait(
        lambda found: len(found["workers"]) == 2 and not any(w["paused"] for w in found["workers"]),
        "/distributed/workers",
    )


async def test_a_worker_that_is_away_can_be_resumed_by_name(cluster: Cluster) -> None:
    comfy, _ = await cluster.frontend("a")
    v = await cluster.worker("v")
    await workers(comfy, "v")
    await comfy.post("/distributed/pause", {"worker": "v"})
    await v.stop()
    await workers(comfy)
    await comfy.post("/distributed/resume", {"worker": "v"})
    await cluster.worker("v")
    await workers(comfy, "v")
    await run(comfy)


async def test_without_a_broker_a_pause_outlives_the_process(tmp_path: Path) -> None:
    """But for one by id, which nobody has any more."""
    for start in range(2):
        broker = MemoryBroker()
        async with in_process(tmp_path, lambda broker=broker: MemoryTransport(broker)) as cluster:
            comfy, _ = await cluster.frontend("a")
            v = await cluster.worker("v")
            await cluster.worker("w")
            if start == 0:
                await workers(comfy, "v", "w")
                await comfy.post("/distributed/pause", {"worker": "w"})
                await comfy.post("/distributed/pause", {"worker": v.worker.id})
                await workers(comfy, "v", "w", paused="v w")
            else:
                await workers(comfy, "v", "w", paused="w")
                await run(comfy)
                assert [worker for worker, _ in cluster.stage.executed] == ["v"]
                await comfy.post("/distributed/resume", {"worker": "w"})
                await workers(comfy, "v", "w")


async def test_a_pause_that_stands_is_said_again_by_one_of_the_workers() -> None:
    """For the sake of those who start when the stream has forgotten the first word of it."""
    broker = MemoryBroker()
    transport = MemoryTransport(broker)
    every = 0.3
    several = [Pausing(MemoryTransport(broker), f"{name}1", name, int, every) for name in "abc"]

    async def follow(pausing: Pausing) -> None:
        async for fact in MemoryTransport(broker).facts():
            pausing.fold(fact)

    tasks = [asyncio.create_task(part) for each in several for part in (follow(each), each.keep())]
    facts = transport.facts()
    await transport.append_fact(PausedFact())
    await transport.append_fact(PausedFact(worker="gone"))
    async with asyncio.timeout(PATIENCE):
        assert [await anext(facts), await anext(facts)] == [PausedFact(), PausedFact(worker="gone")]
        times: list[float] = []
        # In that time each of the three alone would say it twice. Where everything hung for a moment, several say
        # it at once, and the next six count.
        while len(times) < 6 or times[-1] - times[-6] < 2 * every:
            assert await anext(facts) == PausedFact(again=True)
            times.append(asyncio.get_running_loop().time())
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
