"""A worker that is cut off from the broker in the middle of a job finishes it, and its result counts once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.cluster.conftest import Cluster
from tests.faults.counting import beginnings, counted, until_begun
from tests.support.comfy_client import ComfyClient
from tests.support.processes import Process
from tests.support.rabbitmq import Rabbit
from tests.support.wire import Wire


@dataclass
class Field:
    """One worker behind a wire, and one that is not."""

    client: ComfyClient
    wire: Wire
    far: Process
    near: Process

    async def begin(self, seconds: float, marks: Path) -> str:
        """A prompt that the far worker executes, while the other waits for more."""
        await self._let_near_take(False)
        id_ = await self.client.post(counted(marks, seconds=seconds))
        await until_begun(self.client, marks)
        await self._let_near_take(True)
        return id_

    async def _let_near_take(self, takes: bool) -> None:
        await self.client.ask("POST", "/distributed/workers/near", {"enabled": takes})

        async def so() -> bool:
            workers = (await self.client.ask("GET", "/distributed/workers"))["workers"]
            return [worker["paused"] for worker in workers if worker["name"] == "near"] == [not takes]

        await self.client.until(so)


@pytest.fixture
async def field(cluster: Cluster, session: aiohttp.ClientSession) -> AsyncIterator[Field]:
    async with Wire(cluster.uri) as wire:
        # A silent peer is given up after two of these.
        far = cluster.worker("far", "--distributed-queue-connection-uri", f"{wire.uri}?heartbeat=1")
        near = cluster.worker("near")
        process, address = await asyncio.to_thread(cluster.frontend, "f")
        client = ComfyClient(session, address)

        async def idle() -> bool:
            workers = (await client.ask("GET", "/distributed/workers"))["workers"]
            return [(each["name"], each["state"]) for each in workers] == [("far", "idle"), ("near", "idle")]

        await client.until(idle)
        yield Field(client, wire, far, near)
        for each in (far, near, process):
            each.kill()
            each.process.wait()


async def test_a_short_cut_makes_no_second_attempt_and_a_long_silence_no_second_result(
    field: Field, rabbit: Rabbit, cluster: Cluster, tmp_path: Path
) -> None:
    client, wire = field.client, field.wire
    # Back before the second look at it.
    cut = await field.begin(8, tmp_path / "cut")
    wire.cut()
    # It tries again a second later; the other has been given the delivery by then, and has looked once.
    await asyncio.to_thread(field.far.wait_for, "was lost; connecting again")
    wire.mend()
    assert (await client.in_history(cut))["status"]["completed"]
    assert beginnings(tmp_path / "cut") == 1, f"far:\n{field.far.log}\nnear:\n{field.near.log}"
    # The other found the far one back, or the job ended.
    assert f"{cut} begins" not in field.near.log

    # So long that the other takes over, and ends after the far one.
    silent = await field.begin(7, tmp_path / "silent")
    wire.is_silent = True
    await asyncio.to_thread(field.near.wait_for, f"{silent} begins")
    await asyncio.to_thread(field.far.wait_for, f"{silent} finished")
    wire.mend()
    entry = await client.in_history(silent)
    assert entry["status"]["completed"]
    await asyncio.to_thread(field.near.wait_for, f"{silent} finished")
    assert beginnings(tmp_path / "silent") == 2
    await asyncio.to_thread(rabbit.until_counts, f"{cluster.name}.jobs", ready=0, held=0)
    assert (await client.in_history(silent)) == entry
    assert await client.queue() == (set(), set())
    job = await client.ask("GET", f"/api/jobs/{silent}")
    assert job["status"] == "completed"
    for process in (field.far, field.near):
        assert "Traceback" not in process.log
