"""What was cancelled is never executed, and what was paused stays so, though only the broker remembers it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from tests.cluster.conftest import Cluster
from tests.faults.counting import beginnings, counted, until_begun
from tests.support.comfy_client import ComfyClient, image
from tests.support.rabbitmq import Rabbit


async def test_cancelled_jobs_and_a_pause_stay_so_over_a_restart_of_everything(
    cluster: Cluster, rabbit: Rabbit, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Of workers, frontends and the broker."""
    worker = cluster.worker("w")
    accepting, other = [
        ComfyClient(session, (await asyncio.to_thread(cluster.frontend, name))[1]) for name in ("f", "g")
    ]
    for client in (accepting, other):
        await client.until(lambda client=client: knows_a_worker(client))
    marks, gate = {name: tmp_path / name for name in ("running", "pending", "more")}, tmp_path / "gate"
    running = await accepting.post(counted(marks["running"], gate))
    await until_begun(accepting, marks["running"])
    pending, *more = [await accepting.post(counted(marks[name])) for name in ("pending", "more", "more")]
    await other.until(lambda: shows(other, {running}, {pending, *more}))
    # From the frontend that did not accept them: one, what runs, and then all that wait.
    await other.ask("POST", "/queue", {"delete": [pending]})
    await other.until(lambda: waits(other, set(more)))
    await other.ask("POST", "/distributed/pause")
    # Before the worker hears of it: killed, it cannot have settled any of their messages.
    worker.kill()
    worker.process.wait()
    await other.ask("POST", "/interrupt", {"prompt_id": running})
    await other.ask("POST", "/queue", {"clear": True})
    kept = [await accepting.post(image(6))]
    cluster.stop()
    await asyncio.to_thread(rabbit.restart)

    cluster.worker("again")
    client = ComfyClient(session, (await asyncio.to_thread(cluster.frontend, "empty"))[1])
    await client.until(lambda: knows_a_worker(client))
    gate.touch()
    # The worker is paused from its first moment.
    kept.append(await client.post(image(7)))
    await client.until(lambda: waits(client, set(kept)))
    (there,) = (await client.ask("GET", "/distributed/workers"))["workers"]
    assert (there["name"], there["state"], there["paused"], there["finished"]) == ("again", "idle", True, 0)
    await client.ask("POST", "/distributed/resume")
    for id_ in kept:
        assert (await client.in_history(id_))["status"]["completed"]
    await client.until(lambda: shows(client, set(), set()))
    queues = [f"{cluster.name}.{queue}" for queue in ("jobs", "parked", "dead")]
    await asyncio.to_thread(rabbit.until_counts, *queues, ready=0, held=0)
    assert {name: beginnings(each) for name, each in marks.items()} == {
        "running": 1,
        "pending": 0,
        "more": 0,
    }
    for id_ in (running, pending, *more):
        assert (await client.ask("GET", f"/api/jobs/{id_}"))["status"] == "cancelled"
    # Only what had begun is history.
    assert (await client.history()).keys() == {running, *kept}


async def knows_a_worker(client: ComfyClient) -> bool:
    workers = (await client.ask("GET", "/distributed/workers"))["workers"]
    return [worker["state"] for worker in workers] == ["idle"] and bool(
        await client.ask("GET", "/object_info/TestCounter")
    )


async def shows(client: ComfyClient, running: set[str], pending: set[str]) -> bool:
    return await client.queue() == (running, pending)


async def waits(client: ComfyClient, ids: set[str]) -> bool:
    return (await client.queue())[1] == ids
