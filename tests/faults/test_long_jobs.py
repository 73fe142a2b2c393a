"""A job that takes far longer than the broker waits for its acknowledgement runs once and ends once."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.cluster.conftest import Cluster
from tests.faults.counting import beginnings, counted, until_begun
from tests.support.comfy_client import ComfyClient, image
from tests.support.rabbitmq import Rabbit

#: Seconds: of the first 1,800, of the second 60 by default.
CONSUMER_TIMEOUT, CHECKED_EVERY = 2, 1


@pytest.fixture
def impatient() -> Iterator[Rabbit]:
    """A broker that soon takes a delivery back."""
    home = Path(tempfile.mkdtemp(prefix="comfy-dist-rabbit-"))
    config = home / "advanced.config"
    timeout, tick = CONSUMER_TIMEOUT * 1000, CHECKED_EVERY * 1000
    config.write_text(f"[{{rabbit, [{{consumer_timeout, {timeout}}}, {{channel_tick_interval, {tick}}}]}}].\n")
    rabbit = Rabbit(home, environment={"RABBITMQ_ADVANCED_CONFIG_FILE": str(config)})
    try:
        rabbit.start()
        yield rabbit
    finally:
        rabbit.stop(signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)


async def test_the_delivery_that_comes_again_is_parked_not_executed(
    impatient: Rabbit, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    cluster = Cluster(tmp_path, impatient.uri, f"test-{uuid.uuid4().hex[:8]}")
    try:
        workers = [cluster.worker(name) for name in ("w1", "w2", "w3")]
        client = ComfyClient(session, (await asyncio.to_thread(cluster.frontend, "f"))[1])

        async def idle() -> bool:
            states = [w["state"] for w in (await client.ask("GET", "/distributed/workers"))["workers"]]
            return states == ["idle"] * 3

        await client.until(idle)
        marks = tmp_path / "marks"
        id_ = await client.post(counted(marks, seconds=14))
        await until_begun(client, marks)
        most = 0
        while not (await client.ask("GET", f"/history/{id_}")):
            most = max(most, await asyncio.to_thread(copies, impatient, cluster.name))
            await asyncio.sleep(0.2)
        # The broker did take it back, and what came of it was never more than one message.
        assert [log for log in (worker.log for worker in workers) if f"{id_} is executed by" in log]
        assert most == 1
        assert beginnings(marks) == 1
        entry = await client.in_history(id_)
        assert entry["status"]["completed"]
        # Who only waited was not disturbed, and everyone takes the next.
        others = [await client.post(image(number)) for number in range(6)]
        for other in others:
            assert (await client.in_history(other))["status"]["completed"]
        for queue in ("jobs", "parked", "dead"):
            await asyncio.to_thread(impatient.until_counts, f"{cluster.name}.{queue}", ready=0, held=0)
        assert await client.in_history(id_) == entry
        for worker in workers:
            assert "Traceback" not in worker.log
            assert "was lost" not in worker.log
            assert worker.log.count(f"{id_} begins") == (f"{id_} finished" in worker.log)
    finally:
        cluster.stop()


def copies(rabbit: Rabbit, name: str) -> int:
    """Messages of the job, wherever they lie or are held."""
    listed = rabbit.ctl("list_queues", "name", "messages", "--local")
    counts = dict(line.split("\t") for line in listed.splitlines())
    return sum(int(counts.get(f"{name}.{queue}") or 0) for queue in ("jobs", "parked", "dead"))
