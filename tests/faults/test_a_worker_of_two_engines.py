"""A worker with an engine for each of two devices holds two jobs, and loses neither when it ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.cluster.conftest import Cluster
from tests.faults.counting import beginnings, counted, until_begun
from tests.support.comfy_client import ComfyClient, sleeping
from tests.support.patience import PATIENCE
from tests.support.processes import Process
from tests.support.rabbitmq import Rabbit

#: Of a worker that gives back what it has half a second after it was told to stop.
SOON_OUT_OF_PATIENCE = ("--drain-timeout", "0.5s")


class Twins:
    """A frontend, and a worker of two engines that is started again where a test has ended it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.started = 0
        self.worker = self.start()
        _, self.address = cluster.frontend("f")

    def start(self, *arguments: str, devices: str = "cpu,cpu") -> Process:
        self.started += 1
        self.worker = self.cluster.worker(f"twin{self.started}", "--devices", devices, *arguments)
        return self.worker


@pytest.fixture(scope="module")
def twins(cluster: Cluster) -> Twins:
    return Twins(cluster)


@pytest.fixture
async def client(twins: Twins, session: aiohttp.ClientSession) -> AsyncIterator[ComfyClient]:
    """Connected, when one worker is there and idle, and its nodes are known."""
    if twins.worker.process.poll() is not None:
        twins.start()
    async with ComfyClient(session, twins.address) as client:

        async def idle() -> bool:
            there = [worker["state"] for worker in await workers(client)]
            return there == ["idle"] and bool(await client.ask("GET", "/object_info/TestSink"))

        await client.until(idle)
        yield client


async def workers(client: ComfyClient) -> list[dict[str, Any]]:
    return list((await client.ask("GET", "/distributed/workers"))["workers"])


async def until_queue(client: ComfyClient, running: set[str], pending: set[str]) -> None:
    async def so() -> bool:
        return await client.queue() == (running, pending)

    await client.until(so)


async def test_it_holds_a_message_for_each_busy_engine_and_none_while_it_waits(
    twins: Twins, client: ComfyClient, rabbit: Rabbit
) -> None:
    queue = f"{twins.cluster.name}.jobs"
    first, second, third = [await client.post(sleeping(600, 6000)) for _ in range(3)]
    await until_queue(client, {first, second}, {third})
    await asyncio.to_thread(rabbit.until_counts, queue, ready=1, held=2)
    await client.ask("POST", "/queue", {"delete": [third]})
    await client.ask("POST", "/interrupt", {"prompt_id": first})
    await until_queue(client, {second}, set())
    await asyncio.to_thread(rabbit.until_counts, queue, ready=0, held=1)
    await client.ask("POST", "/interrupt", {"prompt_id": second})
    await until_queue(client, set(), set())
    await asyncio.to_thread(rabbit.until_counts, queue, ready=0, held=0)


async def test_a_restart_of_the_broker_makes_no_job_run_twice(
    twins: Twins, client: ComfyClient, rabbit: Rabbit, tmp_path: Path
) -> None:
    """Both running jobs are delivered again, to the worker that has executed one and still executes the other."""
    marks, gates = [tmp_path / str(number) for number in range(4)], [tmp_path / "gate 0", tmp_path / "gate 1"]
    ids = [await client.post(counted(*each)) for each in zip(marks, gates, strict=False)]
    await until_begun(client, *marks[:2])
    ids += [await client.post(counted(each)) for each in marks[2:]]
    queue = f"{twins.cluster.name}.jobs"
    await asyncio.to_thread(rabbit.restart)
    await asyncio.to_thread(rabbit.until_counts, queue, ready=4, held=0)
    # The first has ended when the engine that executed it takes again; the second has not.
    gates[0].touch()
    await asyncio.to_thread(twins.worker.wait_for, f"{ids[1]} is executed by")
    gates[1].touch()
    for id_ in ids:
        assert (await client.in_history(id_))["status"]["completed"]
    await until_queue(client, set(), set())
    await asyncio.to_thread(rabbit.until_counts, queue, ready=0, held=0)
    parked = [id_ for id_ in ids if f"{id_} is executed by" in twins.worker.log]
    assert parked == [ids[1]]
    assert [beginnings(each) for each in marks] == [1, 1, 1, 1]


async def test_a_stop_lets_both_jobs_finish_and_takes_no_third(
    twins: Twins, client: ComfyClient, tmp_path: Path
) -> None:
    names = ("short", "long", "waiting")
    short, long, waiting = [
        await client.post(counted(tmp_path / name, tmp_path / f"{name}.gate")) for name in names
    ]
    await until_begun(client, tmp_path / "short", tmp_path / "long")
    twins.worker.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(twins.worker.wait_for, "stops as soon as")
    for id_, name in ((short, "short"), (long, "long")):
        (tmp_path / f"{name}.gate").touch()
        assert (await client.in_history(id_))["status"]["completed"]
    assert await asyncio.to_thread(twins.worker.process.wait, PATIENCE) == 0
    assert "Traceback" not in twins.worker.log
    await until_queue(client, set(), {waiting})
    (tmp_path / "waiting.gate").touch()
    twins.start(*SOON_OUT_OF_PATIENCE)
    assert (await client.in_history(waiting))["status"]["completed"]

    async def alone() -> bool:
        return [worker["name"] for worker in await workers(client)] == [f"twin{twins.started}"]

    # The other has left the list.
    await client.until(alone)
    assert [beginnings(tmp_path / name) for name in names] == [1, 1, 1]


async def test_both_jobs_are_given_back_when_its_patience_ends(
    twins: Twins, client: ComfyClient, tmp_path: Path
) -> None:
    """That a second signal ends it, too, tests/cluster/test_one_worker.py shows."""
    if SOON_OUT_OF_PATIENCE[0] not in twins.worker.process.args:
        await asyncio.to_thread(twins.worker.stop)
        twins.start(*SOON_OUT_OF_PATIENCE)
    marks, gate = [tmp_path / "first", tmp_path / "second"], tmp_path / "gate"
    ids = [await client.post(counted(each, gate)) for each in marks]
    await until_begun(client, *marks)
    assert await asyncio.to_thread(twins.worker.stop) == 0
    assert "Traceback" not in twins.worker.log
    await until_queue(client, set(), set(ids))
    gate.touch()
    twins.start("--max-attempts", "1")
    for id_ in ids:
        assert (await client.in_history(id_))["status"]["completed"]
    assert [beginnings(each) for each in marks] == [2, 2]


async def test_both_jobs_of_a_killed_worker_run_again_elsewhere_and_end_once(
    twins: Twins, client: ComfyClient, rabbit: Rabbit, tmp_path: Path
) -> None:
    marks, gate = [tmp_path / "first", tmp_path / "second"], tmp_path / "gate"
    ids = [await client.post(counted(each, gate)) for each in marks]
    await until_queue(client, set(ids), set())
    await until_begun(client, *marks)
    twins.worker.kill()
    gate.touch()
    twins.start(devices="cpu")
    for id_ in ids:
        assert (await client.in_history(id_))["status"]["completed"]
        await client.ended(id_)
        job = await client.ask("GET", f"/api/jobs/{id_}")
        assert job["status"] == "completed"
    ends = [m["data"]["prompt_id"] for m in client.messages if m["type"] == "execution_success"]
    assert sorted(ends) == sorted(ids)
    assert [beginnings(each) for each in marks] == [2, 2]
    await asyncio.to_thread(rabbit.until_counts, f"{twins.cluster.name}.jobs", ready=0, held=0)
    await until_queue(client, set(), set())
