"""A prompt is tried as often as it may be; until then it waits as others do, and only so many may wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from comfy_dist.messages import Catalogue
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import Cluster, Obedient, Stage, in_process, prompt
from tests.support.talking import Frontend


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    broker = MemoryBroker()
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        yield cluster


class Returning(Obedient):
    """Is back from a death when it is told."""

    def __init__(self, worker: str, stage: Stage) -> None:
        super().__init__(worker, stage)
        self.may_return = asyncio.Event()

    async def start(self) -> Catalogue:
        if self.starts:
            await self.may_return.wait()
        return await super().start()


async def until_up(comfy: Frontend) -> None:
    await comfy.wait(lambda nodes: "Quick" in nodes, "/object_info")


async def test_with_one_attempt_a_prompt_is_tried_once(cluster: Cluster) -> None:
    comfy, _ = await cluster.frontend("f")
    await cluster.worker("w", max_attempts=1)
    await until_up(comfy)
    id_ = await comfy.prompt(prompt("Die"))
    error = (await comfy.ended(id_))["status"]["messages"][-1][1]
    assert "exited with code 9" in error["exception_message"]
    assert "once" in error["exception_message"]
    assert (await comfy.ended(await comfy.prompt(prompt("Quick"))))["status"]["completed"]
    assert [job for _, job in cluster.stage.executed].count(id_) == 1


async def test_a_prompt_that_waits_to_be_tried_again_can_be_cancelled(cluster: Cluster) -> None:
    comfy, _ = await cluster.frontend("f")
    worker = await cluster.worker("w", engine=Returning)
    (engine,) = worker.engines
    assert isinstance(engine, Returning)
    await until_up(comfy)
    id_ = await comfy.prompt(prompt("Die"))
    # Begun, and given up.
    await comfy.wait(lambda job: job["status"] == "pending" and "execution_start_time" in job, f"/jobs/{id_}")
    await comfy.post(f"/jobs/{id_}/cancel")
    await comfy.idle()
    engine.may_return.set()
    assert (await comfy.get(f"/jobs/{id_}"))["status"] == "cancelled"
    assert (await comfy.ended(await comfy.prompt(prompt("Quick"))))["status"]["completed"]
    assert [job for _, job in cluster.stage.executed].count(id_) == 1


async def test_a_full_queue_is_refused_until_there_is_room(cluster: Cluster) -> None:
    comfy, _ = await cluster.frontend("f", max_queue_size=2)
    await cluster.worker("w")
    await until_up(comfy)
    running = await comfy.prompt(prompt("Wait"))
    await comfy.running(running)
    body = {"prompt": prompt("Quick"), "prompt_id": "waits"}
    await comfy.post("/prompt", body)
    answer = await comfy.ask("POST", "/prompt", json={"prompt": prompt("Quick")})
    assert (answer.status, answer.error["type"]) == (429, "queue_full")
    # What is accepted already may be given again.
    await comfy.post("/prompt", body)
    await comfy.post("/interrupt")
    await comfy.ended("waits")
    assert (await comfy.ended(await comfy.prompt(prompt("Quick"))))["status"]["completed"]
