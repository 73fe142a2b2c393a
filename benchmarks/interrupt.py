"""How soon an interruption at one frontend is told to a client at another, over RabbitMQ."""

from __future__ import annotations

import tempfile
import time
import uuid
from pathlib import Path

import aiohttp

from benchmarks.figures import p50, report
from tests.cluster.conftest import Cluster
from tests.support.comfy_client import ComfyClient, sleeping
from tests.support.rabbitmq import own_broker

TIMES = 20
#: Seconds between a node's reports of progress, at which it notices.
REPORTS_EVERY = 0.05


async def run() -> None:
    with own_broker() as broker, tempfile.TemporaryDirectory() as here:
        cluster = Cluster(Path(here), broker.uri, f"benchmark-{uuid.uuid4().hex[:8]}")
        try:
            cluster.worker("w")
            addresses = [cluster.frontend(name)[1] for name in ("f", "g")]
            took = await _measure(*addresses)
        finally:
            cluster.stop()
    what = f"POST /interrupt at one frontend to execution_interrupted at another, {TIMES} times"
    report("interrupt", f"{what}: p50", p50(took), "ms", bound="<= 200 ms")
    report("interrupt", f"{what}: the longest", max(took), "ms", bound="<= 200 ms")


async def _measure(listening: str, asking: str) -> list[float]:
    took = []
    async with aiohttp.ClientSession() as session, ComfyClient(session, listening) as client:
        other = ComfyClient(session, asking)
        for each in (client, other):
            await each.until(lambda each=each: each.ask("GET", "/object_info/TestSink"))
        for _ in range(TIMES):
            id_ = await client.post(sleeping(60, round(60 / REPORTS_EVERY)))
            await client.seen(lambda m, id_=id_: m["type"] == "progress" and m["data"]["prompt_id"] == id_)
            began = time.perf_counter()
            await other.ask("POST", "/interrupt", {"prompt_id": id_})
            await client.seen(
                lambda m, id_=id_: m["type"] == "execution_interrupted" and m["data"]["prompt_id"] == id_
            )
            took.append((time.perf_counter() - began) * 1000)
            await client.ended(id_)
    return took
