"""What is accepted ends once, whichever process dies."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import aiohttp
import pytest

from tests.cluster.conftest import Cluster
from tests.support.comfy_client import ComfyClient, gated, image, sleeping
from tests.support.patience import PATIENCE
from tests.support.processes import Process
from tests.support.rabbitmq import Rabbit, free_port


class Services:
    """One frontend and two workers, of which some are killed and started again."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.port = free_port()
        self.workers = {name: cluster.worker(name) for name in ("k1", "k2")}
        self.frontend, self.address = cluster.frontend("f", port=self.port)

    def heal(self) -> None:
        """Start again what is not running."""
        for name, process in self.workers.items():
            if process.process.poll() is not None:
                self.workers[name] = self.cluster.worker(name)
        if self.frontend.process.poll() is not None:
            self.frontend, self.address = self.cluster.frontend("f", port=self.port)


@pytest.fixture(scope="module")
def services(cluster: Cluster) -> Services:
    return Services(cluster)


@pytest.fixture
async def client(services: Services, session: aiohttp.ClientSession) -> ComfyClient:
    services.heal()
    client = ComfyClient(session, services.address)

    async def all_idle() -> bool:
        workers = (await client.ask("GET", "/distributed/workers"))["workers"]
        return sorted((w["name"], w["state"]) for w in workers) == [("k1", "idle"), ("k2", "idle")]

    await client.until(all_idle)
    return client


async def running_on(client: ComfyClient, prompt_id: str) -> str:
    """The name of the worker that executes the prompt."""

    async def name() -> str | None:
        for worker in (await client.ask("GET", "/distributed/workers"))["workers"]:
            if any(job["id"] == prompt_id for job in worker["jobs"]):
                return str(worker["name"])
        return None

    return str(await client.until(name))


async def test_the_job_of_a_killed_worker_runs_again_and_ends_once(
    services: Services, client: ComfyClient, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with ComfyClient(session, services.address, client.id) as watching:
        prompt_id = await watching.post(gated(tmp_path / "gate"))
        victim = await running_on(client, prompt_id)
        services.workers[victim].kill()
        (tmp_path / "gate").touch()
        entry = await client.in_history(prompt_id)
        assert entry["status"]["completed"]
        await watching.ended(prompt_id)
        ends = [m for m in watching.messages if m["type"] == "execution_success"]
        assert len(ends) == 1
    job = await client.ask("GET", f"/api/jobs/{prompt_id}")
    assert job["status"] == "completed"
    await asyncio.sleep(1)
    assert await client.queue() == (set(), set())


async def test_a_killed_frontend_comes_back_with_its_history_and_its_prompts_run(
    services: Services, client: ComfyClient
) -> None:
    before = await client.history()
    accepted = [await client.post(sleeping(0.3)) for _ in range(4)]
    services.frontend.kill()
    services.frontend.process.wait()
    services.heal()
    for prompt_id in accepted:
        assert (await client.in_history(prompt_id))["status"]["completed"]
    after = await client.history()
    assert {id_: after[id_] for id_ in before} == before
    assert len(after) == len(before) + len(accepted)


async def test_an_engine_that_dies_is_replaced_and_its_prompt_fails_with_a_sentence(
    client: ComfyClient,
) -> None:
    prompt = sleeping(0)
    prompt["2"] = {"class_type": "TestExit", "inputs": {"code": 7, "value": ["1", 0]}}
    prompt_id = await client.post(prompt)
    entry = await client.in_history(prompt_id)
    name, error = entry["status"]["messages"][-1]
    assert name == "execution_error"
    assert error["node_id"] == "2"
    assert error["node_type"] == "TestExit"
    assert "node 2 (TestExit)" in error["exception_message"]
    assert "3 times" in error["exception_message"]
    assert (await client.in_history(await client.post(image(3))))["status"]["completed"]


async def test_a_stopped_worker_finishes_its_prompt_first(
    services: Services, client: ComfyClient, tmp_path: Path
) -> None:
    prompt_id = await client.post(gated(tmp_path / "gate"))
    name = await running_on(client, prompt_id)
    process = services.workers[name]
    process.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(process.wait_for, "stops as soon as")
    (tmp_path / "gate").touch()
    assert await asyncio.to_thread(process.process.wait, PATIENCE) == 0
    assert (await client.in_history(prompt_id))["status"]["completed"]
    assert "Traceback" not in process.log


async def test_a_worker_told_twice_gives_its_prompt_back(
    services: Services, client: ComfyClient, tmp_path: Path
) -> None:
    prompt_id = await client.post(gated(tmp_path / "gate"))
    name = await running_on(client, prompt_id)
    process = services.workers[name]
    process.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(process.wait_for, "stops as soon as")
    assert await asyncio.to_thread(process.stop, signal.SIGTERM) == 0
    (tmp_path / "gate").touch()
    entry = await client.in_history(prompt_id)
    assert entry["status"]["completed"]
    assert await running_elsewhere(client, name)


async def running_elsewhere(client: ComfyClient, name: str) -> bool:
    """Whether the stopped worker has left the list at once."""
    return name not in {w["name"] for w in (await client.ask("GET", "/distributed/workers"))["workers"]}


async def test_a_killed_worker_leaves_no_engine_behind(services: Services, client: ComfyClient) -> None:
    prompt = {
        "1": {"class_type": "TestPid", "inputs": {}},
        "2": {"class_type": "TestSink", "inputs": {"value": ["1", 0]}},
    }
    entry = await client.in_history(await client.post(prompt))
    pid = int(entry["outputs"]["2"]["text"][0])
    owner = next(p for p in services.workers.values() if parent_of(pid) == p.process.pid)
    owner.process.kill()  # itself alone, not its children
    await client.until(lambda: gone(pid))


def parent_of(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


async def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_all_services_survive_a_restart_of_the_broker(
    services: Services, client: ComfyClient, session: aiohttp.ClientSession, rabbit: Rabbit
) -> None:
    async with ComfyClient(session, services.address, client.id) as watching:
        ids = [await watching.post(sleeping(1.5)) for _ in range(5)]
        await running_on(client, ids[0])
        await asyncio.to_thread(rabbit.restart)
        for prompt_id in ids:
            entry = await client.in_history(prompt_id)
            assert entry["status"]["completed"]
        for prompt_id in ids:
            await watching.ended(prompt_id)
        ends = [m["data"]["prompt_id"] for m in watching.messages if m["type"] == "execution_success"]
        assert sorted(ends) == sorted(ids)
    new = await client.post(image(9))
    assert (await client.in_history(new))["status"]["completed"]
    for process in (services.frontend, *services.workers.values()):
        alive(process)


def alive(process: Process) -> None:
    assert process.process.poll() is None
    assert "Traceback" not in process.log


async def test_without_the_broker_a_prompt_is_refused_with_a_sentence(
    services: Services, client: ComfyClient, rabbit: Rabbit
) -> None:
    rabbit.stop()
    try:
        async with client.session.post(
            f"{client.address}/prompt", json={"prompt": image(4)}, timeout=aiohttp.ClientTimeout(30)
        ) as response:
            assert response.status == 503
            message = (await response.json())["error"]["message"]
        assert "will not run" in message
        assert "guest" not in message
        async with client.session.get(f"{client.address}/health") as response:
            assert response.status == 503
        history = await client.history()
    finally:
        await asyncio.to_thread(rabbit.start)
    again = await client.until(lambda: accepted(client))
    await client.in_history(again)
    # The refused one was revoked: it has not run.
    assert len(await client.history()) == len(history) + 1


async def accepted(client: ComfyClient) -> str | None:
    async with client.session.post(f"{client.address}/prompt", json={"prompt": image(5)}) as response:
        return (await response.json())["prompt_id"] if response.status == 200 else None


async def test_a_refused_prompt_stays_refused_over_a_restart(
    services: Services, client: ComfyClient, rabbit: Rabbit
) -> None:
    before = await client.history()
    rabbit.stop()
    try:
        async with client.session.post(f"{client.address}/prompt", json={"prompt": image(6)}) as response:
            assert response.status == 503
        # It stops, though nothing can be told to the broker.
        assert await asyncio.to_thread(services.frontend.stop, signal.SIGTERM, 40) == 0
    finally:
        await asyncio.to_thread(rabbit.start)
    services.heal()
    await client.in_history(await client.until(lambda: accepted(client)))
    assert len(await client.history()) == len(before) + 1


async def test_a_worker_tells_its_health(services: Services, client: ComfyClient) -> None:
    for process in services.workers.values():
        address = process.wait_for(r"GET (http://\S+/health)")[1]
        async with client.session.get(address) as response:
            assert response.status == 200
            assert (await response.json())["state"] == "idle"


async def test_a_killed_frontends_prompt_runs_without_it(services: Services, client: ComfyClient) -> None:
    finished = sum(w["finished"] for w in (await client.ask("GET", "/distributed/workers"))["workers"])
    other = ComfyClient(client.session, services.cluster.frontend("g")[1])

    async def known() -> bool:
        return len((await other.ask("GET", "/distributed/workers"))["workers"]) == 2

    await other.until(known)
    prompt_id = await client.post(sleeping(0.2))
    services.frontend.kill()
    assert (await other.in_history(prompt_id))["status"]["completed"]

    async def counted() -> bool:
        workers = (await other.ask("GET", "/distributed/workers"))["workers"]
        return sum(w["finished"] for w in workers) == finished + 1

    await other.until(counted)
