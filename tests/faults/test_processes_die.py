"""What is accepted ends once, whichever process dies."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.cluster.conftest import Cluster
from tests.faults.counting import counted, until_begun
from tests.support.comfy_client import ComfyClient, gated, image, sleeping
from tests.support.patience import PATIENCE
from tests.support.processes import Process
from tests.support.rabbitmq import Rabbit, free_port


class Services:
    """Two workers and two frontends, of which some are ended and started again, with their ports and states."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.workers = {name: self._worker(name) for name in ("k1", "k2")}
        self._ports = {name: free_port() for name in "fg"}
        self.frontends = {name: self._frontend(name) for name in "fg"}
        for process in self.frontends.values():
            process.wait_for("ComfyUI is at")

    def _worker(self, name: str) -> Process:
        return self.cluster.worker(name, "--max-attempts", "2")

    def _frontend(self, name: str) -> Process:
        return self.cluster.start_frontend(name, port=self._ports[name])

    def address(self, frontend: str) -> str:
        return f"http://127.0.0.1:{self._ports[frontend]}"

    def heal(self) -> None:
        """Start again what is not running."""
        for name, process in self.workers.items():
            if process.process.poll() is not None:
                self.workers[name] = self._worker(name)
        for name, process in self.frontends.items():
            if process.process.poll() is not None:
                self.frontends[name] = self._frontend(name)
                self.frontends[name].wait_for("ComfyUI is at")


@pytest.fixture(scope="module")
def services(cluster: Cluster) -> Services:
    return Services(cluster)


@pytest.fixture
async def clients(services: Services, session: aiohttp.ClientSession) -> tuple[ComfyClient, ComfyClient]:
    """At either frontend, when both know that both workers are idle."""
    services.heal()
    clients = ComfyClient(session, services.address("f")), ComfyClient(session, services.address("g"))
    for client in clients:

        async def all_idle(client: ComfyClient = client) -> bool:
            there = [(worker["name"], worker["state"]) for worker in await workers(client)]
            return sorted(there) == [("k1", "idle"), ("k2", "idle")]

        await client.until(all_idle)
    return clients


@pytest.fixture
def client(clients: tuple[ComfyClient, ComfyClient]) -> ComfyClient:
    return clients[0]


async def workers(client: ComfyClient) -> list[dict[str, Any]]:
    return list((await client.ask("GET", "/distributed/workers"))["workers"])


async def running_on(client: ComfyClient, prompt_id: str) -> str:
    """The name of the worker that executes the prompt."""

    async def name() -> str | None:
        for worker in await workers(client):
            if any(job["id"] == prompt_id for job in worker["jobs"]):
                return str(worker["name"])
        return None

    return str(await client.until(name))


def ends(client: ComfyClient) -> list[str]:
    """The prompts of which the client was told that they have ended well, as often as it was told."""
    return [m["data"]["prompt_id"] for m in client.messages if m["type"] == "execution_success"]


async def test_a_worker_tells_its_health(services: Services, client: ComfyClient) -> None:
    for process in services.workers.values():
        address = process.wait_for(r"GET (http://\S+/health)")[1]
        async with client.session.get(address) as response:
            assert response.status == 200
            assert (await response.json())["state"] == "idle"


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
    assert "tried 2 times" in error["exception_message"]
    assert (await client.in_history(await client.post(image(3))))["status"]["completed"]


async def test_while_the_broker_is_away_prompts_are_refused_and_then_everything_goes_on(
    services: Services, clients: tuple[ComfyClient, ComfyClient], rabbit: Rabbit, tmp_path: Path
) -> None:
    """What was accepted ends once. What was refused never runs, though one that refused it has ended meanwhile."""
    before = await clients[0].history()
    marks, gate = [tmp_path / str(number) for number in range(5)], tmp_path / "gate"
    async with ComfyClient(clients[0].session, clients[0].address) as watching:
        ids = [await watching.post(counted(each, gate)) for each in marks]
        await until_begun(watching, *marks[:2])
        await asyncio.to_thread(rabbit.stop)
        try:
            assert await asyncio.gather(*(refusal(client) for client in clients)) == [503, 503]
            # It stops, though nothing can be told to the broker.
            assert await asyncio.to_thread(services.frontends["g"].stop) == 0
            gate.touch()
        finally:
            await asyncio.to_thread(rabbit.start)
        await asyncio.to_thread(services.heal)
        for prompt_id in ids:
            assert (await watching.in_history(prompt_id))["status"]["completed"]
            await watching.ended(prompt_id)
        assert sorted(ends(watching)) == sorted(ids)
    new = [await client.until(lambda client=client: accepted(client)) for client in clients]
    for client in clients:
        for prompt_id in new:
            assert (await client.in_history(prompt_id))["status"]["completed"]
        assert (await client.history()).keys() == before.keys() | {*ids, *new}
    for process in (services.frontends["f"], *services.workers.values()):
        assert process.process.poll() is None
        assert "Traceback" not in process.log


async def refusal(client: ComfyClient) -> int:
    """The status of a prompt, refused with a sentence by a frontend that is not well and shows its history."""
    patience = aiohttp.ClientTimeout(PATIENCE)
    async with client.session.post(
        f"{client.address}/prompt", json={"prompt": image(4)}, timeout=patience
    ) as response:
        message = (await response.json())["error"]["message"]
    assert "will not run" in message
    assert "guest" not in message
    async with client.session.get(f"{client.address}/health") as health:
        assert health.status == 503
    await client.history()
    return response.status


async def accepted(client: ComfyClient) -> str | None:
    async with client.session.post(f"{client.address}/prompt", json={"prompt": image(5)}) as response:
        return (await response.json())["prompt_id"] if response.status == 200 else None


async def test_a_killed_frontend_comes_back_with_its_history_and_its_prompts_run_without_it(
    services: Services, clients: tuple[ComfyClient, ComfyClient]
) -> None:
    killed, other = clients
    finished = sum(worker["finished"] for worker in await workers(other))
    before = await killed.history()
    ids = [await killed.post(sleeping(0.3)) for _ in range(4)]
    services.frontends["f"].kill()
    services.frontends["f"].process.wait()
    for prompt_id in ids:
        assert (await other.in_history(prompt_id))["status"]["completed"]

    async def told() -> bool:
        # What ran before may have been counted since.
        return sum(worker["finished"] for worker in await workers(other)) >= finished + len(ids)

    await other.until(told)
    await asyncio.to_thread(services.heal)
    for prompt_id in ids:
        assert (await killed.in_history(prompt_id))["status"]["completed"]
    after = await killed.history()
    assert {id_: after[id_] for id_ in before} == before
    assert len(after) == len(before) + len(ids)


async def test_a_killed_worker_leaves_no_engine_behind_and_its_job_runs_again_and_ends_once(
    services: Services, client: ComfyClient, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    async with ComfyClient(client.session, client.address) as watching:
        prompt_id = await watching.post(gated(gate))
        victim = await running_on(client, prompt_id)
        worker = services.workers[victim].process
        (engine,) = psutil.Process(worker.pid).children()
        worker.kill()  # itself alone, not its children
        await client.until(lambda: gone(engine))
        gate.touch()
        entry = await client.in_history(prompt_id)
        assert entry["status"]["completed"]
        await watching.ended(prompt_id)
        job = await client.ask("GET", f"/api/jobs/{prompt_id}")
        assert job["status"] == "completed"
        # Were there another end of it on its way, it would come before that of this one.
        next_id = await watching.post(image(6))
        await watching.ended(next_id)
        assert ends(watching) == [prompt_id, next_id]
    assert await client.queue() == (set(), set())


async def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
