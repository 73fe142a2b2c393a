"""Two frontends and three workers on one broker are one ComfyUI."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.cluster.conftest import Cluster
from tests.support.comfy_client import ComfyClient, gated, image, sleeping
from tests.support.rabbitmq import Rabbit

WORKERS = ("w1", "w2", "w3")


@dataclass
class Up:
    a: str
    b: str


@pytest.fixture(scope="module")
def up(cluster: Cluster) -> Up:
    for name in WORKERS:
        cluster.worker(name, "--max-attempts", "2")
    return Up(cluster.frontend("a")[1], cluster.frontend("b")[1])


@pytest.fixture
async def clients(up: Up, session: aiohttp.ClientSession) -> AsyncIterator[tuple[ComfyClient, ComfyClient]]:
    """A client at each frontend, when both know all workers."""
    async with ComfyClient(session, up.a) as a, ComfyClient(session, up.b) as b:
        for client in (a, b):

            async def all_idle(client: ComfyClient = client) -> bool:
                workers = (await client.ask("GET", "/distributed/workers"))["workers"]
                return len(workers) == len(WORKERS) and {worker["state"] for worker in workers} == {"idle"}

            await client.until(all_idle)
        yield a, b
        await a.ask("POST", "/queue", {"clear": True})
        await a.ask("POST", "/interrupt")


async def test_a_prompt_is_seen_pending_running_and_done_on_both(
    clients: tuple[ComfyClient, ComfyClient], tmp_path: Path
) -> None:
    a, b = clients
    gate = tmp_path / "gate"
    blocking = [await a.post(gated(gate)) for _ in WORKERS]
    waiting = await a.post(image(1))
    for client in clients:

        async def busy(client: ComfyClient = client) -> bool:
            running, pending = await client.queue()
            return running == set(blocking) and pending == {waiting}

        await client.until(busy)
    gate.touch()
    for client in clients:
        for prompt_id in (*blocking, waiting):
            assert (await client.in_history(prompt_id))["status"]["status_str"] == "success"

        async def empty(client: ComfyClient = client) -> bool:
            return await client.queue() == (set(), set())

        await client.until(empty)
    assert await a.history() == await b.history()


async def test_a_client_gets_progress_at_any_frontend(clients: tuple[ComfyClient, ComfyClient]) -> None:
    a, b = clients
    # Posted at A under the id of the client that is connected to B.
    answer = await a.ask("POST", "/prompt", {"prompt": sleeping(0.5, 5), "client_id": b.id})
    types = await b.ended(answer["prompt_id"])
    assert types[0] == "execution_start"
    assert types.count("progress") == 5
    assert types[-2:] == ["execution_success", "executing"]
    assert not [message for message in a.messages if message["type"] in ("progress", "executed", "executing")]


async def test_a_client_that_comes_back_elsewhere_learns_the_node(
    clients: tuple[ComfyClient, ComfyClient], up: Up, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    a, _ = clients
    async with ComfyClient(session, up.a) as gone:
        prompt_id = await gone.post(gated(tmp_path / "gate"))
        await gone.seen(lambda m: m["type"] == "executing" and m["data"]["node"] == "2")
    async with ComfyClient(session, up.b, gone.id) as back:
        await back.seen(lambda m: m["type"] == "executing" and m["data"]["node"] == "2")
        (tmp_path / "gate").touch()
        assert (await back.ended(prompt_id))[-2:] == ["execution_success", "executing"]
    await a.in_history(prompt_id)


async def test_work_spreads_over_the_workers_and_runs_once(
    clients: tuple[ComfyClient, ComfyClient], tmp_path: Path
) -> None:
    a, b = clients
    # Nobody is done before everybody has one of them.
    ids = [await (a if number % 2 else b).post(gated(tmp_path / "gate")) for number in range(18)]
    await a.until(lambda: _running(a, len(WORKERS)))
    (tmp_path / "gate").touch()
    for client, number in ((b, 0), (a, 1)):
        for id_ in ids[number::2]:
            await client.ended(id_)
    for id_ in ids:
        assert (await a.in_history(id_))["status"]["completed"]
    seen = Counter(
        (message["data"]["prompt_id"], message["type"])
        for client in clients
        for message in client.messages
        if message["type"] in ("execution_start", "execution_success")
    )
    assert all(seen[id_, kind] == 1 for id_ in ids for kind in ("execution_start", "execution_success"))
    for name in WORKERS:
        assert (await a.ask("GET", f"/history?worker={name}")).keys() & set(ids)


async def test_a_busy_worker_holds_one_message(
    clients: tuple[ComfyClient, ComfyClient], cluster: Cluster, rabbit: Rabbit
) -> None:
    a, _ = clients
    ids = [await a.post(sleeping(600, 6000)) for _ in range(6)]

    async def three_running() -> bool:
        return len((await a.queue())[0]) == 3

    await a.until(three_running)
    await asyncio.to_thread(rabbit.until_counts, f"{cluster.name}.jobs", ready=3, held=3)
    # All at once, for one that waits may begin while another is stopped.
    await a.ask("POST", "/jobs/cancel", {"job_ids": ids})
    await a.until(lambda: _drained(a))


async def _drained(client: ComfyClient) -> bool:
    return await client.queue() == (set(), set())


async def test_any_frontend_cancels(clients: tuple[ComfyClient, ComfyClient]) -> None:
    a, b = clients
    running = [await a.post(sleeping(600, 6000)) for _ in WORKERS]
    waiting = [await a.post(image(50 + number)) for number in range(2)]

    async def as_expected() -> bool:
        return await b.queue() == (set(running), set(waiting))

    await b.until(as_expected)
    await b.ask("POST", "/queue", {"delete": [waiting[0]]})
    await b.ask("POST", "/interrupt", {"prompt_id": running[0]})
    entry = await a.in_history(running[0])
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"
    await a.ended(running[0])
    assert (await a.in_history(waiting[1]))["status"]["completed"]
    await b.ask("POST", "/interrupt")
    for id_ in running[1:]:
        assert (await a.in_history(id_))["status"]["messages"][-1][0] == "execution_interrupted"
    for id_ in (*running, waiting[1]):
        await b.in_history(id_)
    # Cancelled before it began: no history, as in ComfyUI.
    assert waiting[0] not in await a.history()
    assert await a.history() == await b.history()


async def test_what_was_just_begun_or_accepted_elsewhere_is_cancelled(
    clients: tuple[ComfyClient, ComfyClient],
) -> None:
    """A client behind a load balancer knows of it before the frontend that it asks.

    Which waits for the news a moment (test_late_news.py); where that was too short, the client asks again.
    """
    a, b = clients
    begun = await a.post(sleeping(600, 6000))
    await a.seen(lambda m: m["type"] == "execution_start" and m["data"]["prompt_id"] == begun)

    async def interrupted() -> bool:
        await b.ask("POST", "/interrupt", {"prompt_id": begun})
        return begun in await b.history()

    await b.until(interrupted)
    assert (await b.in_history(begun))["status"]["messages"][-1][0] == "execution_interrupted"
    busy = [await a.post(sleeping(600, 6000)) for _ in WORKERS]
    await a.until(lambda: _running(a, 3))
    for route in ("/queue", "/jobs/cancel"):
        accepted = await a.post(image(90))

        async def cancelled(route: str = route, id_: str = accepted) -> bool:
            await b.ask("POST", route, {"delete": [id_], "job_ids": [id_]})
            return await _cancelled(a, id_)

        await a.until(cancelled)
    assert (await a.queue())[0] == set(busy)
    await b.ask("POST", "/jobs/cancel", {"job_ids": busy})
    await a.until(lambda: _drained(a))


async def _running(client: ComfyClient, count: int) -> bool:
    return len((await client.queue())[0]) == count


async def _cancelled(client: ComfyClient, id_: str) -> bool:
    return bool((await client.ask("GET", f"/api/jobs/{id_}"))["status"] == "cancelled")


async def test_history_is_deleted_everywhere(clients: tuple[ComfyClient, ComfyClient]) -> None:
    a, b = clients
    id_ = await a.post(image(77))
    await a.ended(id_)
    await b.in_history(id_)
    await a.ask("POST", "/history", {"delete": [id_]})

    async def gone_at_b() -> bool:
        return id_ not in await b.history()

    await b.until(gone_at_b)
    await b.ask("POST", "/history", {"clear": True})

    async def empty_at_a() -> bool:
        return await a.history() == {}

    await a.until(empty_at_a)


async def test_a_bad_prompt_is_refused_while_all_workers_are_busy(
    clients: tuple[ComfyClient, ComfyClient], tmp_path: Path
) -> None:
    a, _ = clients
    ids = [await a.post(gated(tmp_path / "gate")) for _ in WORKERS]
    await a.until(lambda: _running(a, len(WORKERS)))
    bad = {"1": {"class_type": "EmptyImage", "inputs": {"width": -5, "height": 8, "batch_size": 1, "color": 0}}}
    bad["2"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    async with a.session.post(f"{a.address}/prompt", json={"prompt": bad}) as response:
        assert response.status == 400
        assert (await response.json())["node_errors"]["1"]["errors"][0]["type"] == "value_smaller_than_min"
    (tmp_path / "gate").touch()
    for id_ in ids:
        await a.in_history(id_)


async def test_a_job_that_kills_its_workers_process_is_given_up(
    clients: tuple[ComfyClient, ComfyClient], cluster: Cluster
) -> None:
    """Here at the second attempt: who takes it next finds its worker gone without a word."""
    a, b = clients
    kill = {"1": {"class_type": "TestKillWorker", "inputs": {}}}
    poison = await a.post(kill | {"2": {"class_type": "TestSink", "inputs": {"value": ["1", 0]}}})
    name, error = (await b.in_history(poison))["status"]["messages"][-1]
    assert name == "execution_error"
    ended = zip(WORKERS, cluster.processes, strict=False)
    codes = {name: code for name, each in ended if (code := each.process.poll()) is not None}
    assert list(codes.values()) == [-9, -9]
    assert "It was tried 2 times and given up: " in error["exception_message"]
    assert all(f"{victim}-" in error["exception_message"] for victim in codes)
    assert "ended without a word" in error["exception_message"]

    async def letters() -> list[str]:
        return [letter["id"] for letter in (await b.ask("GET", "/distributed/dead"))["dead"]]

    # The job's end is told before its letter is written.
    assert await b.until(letters) == [poison]
    assert (await a.in_history(await a.post(image(5))))["status"]["completed"]
