"""P4: what N workers finish against N times what one does, with jobs that wait."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import time
from contextlib import AsyncExitStack
from typing import Any

from benchmarks import waiting_node
from benchmarks.figures import report
from benchmarks.prompts import Client, client
from benchmarks.servers import folder, frontend, worker
from benchmarks.workers import Workers
from tests.support.rabbitmq import own_broker

SIZES = (1, 2, 4, 8, 16)
#: Seconds that each job waits.
JOB_SECONDS = 0.5
#: Jobs for each worker; the first and the last are not counted.
JOBS_EACH = 12

_numbers = itertools.count()


async def run() -> None:
    """All workers run from the start; those that are too many are paused."""
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(own_broker())
        here = stack.enter_context(folder())
        (here / "custom_nodes").mkdir()
        shutil.copy(waiting_node.__file__, here / "custom_nodes")
        names = [f"worker{number}" for number in range(max(SIZES))]
        for name in names:
            stack.enter_context(worker(broker.uri, here, name))
        server = stack.enter_context(frontend(broker.uri, here))
        workers = await stack.enter_async_context(Workers(server.address))
        await workers.all_idle(len(names))
        connected = await stack.enter_async_context(client(server.address))
        rates: dict[int, float] = {}
        for size in SIZES:
            await workers.work_with(names[:size], names[size:])
            await _finished(connected, 2 * size)
            rates[size] = await _rate(connected, size)
    for size in SIZES[1:]:
        report(
            "P4",
            f"{size} workers, jobs of {JOB_SECONDS:g} s: finished",
            rates[size],
            "1/s",
            yardstick=size * rates[1],
            of=f"{size} times one worker",
            bound=">= 0.97",
        )


async def _finished(connected: Client, count: int) -> list[float]:
    """When each of so many jobs that were posted at once ended."""
    posting = asyncio.gather(*(connected.post(_prompt()) for _ in range(count)))
    ends = []
    for _ in range(count):
        await connected.ended()
        ends.append(time.perf_counter())
    await posting
    return ends


async def _rate(connected: Client, size: int) -> float:
    """Finished in a second, while each worker has a job behind it and one before it."""
    ends = await _finished(connected, size * JOBS_EACH)
    first, last = size - 1, len(ends) - size - 1
    return (last - first) / (ends[last] - ends[first])


def _prompt() -> dict[str, Any]:
    return {"1": {"class_type": "BenchmarkWait", "inputs": {"seconds": JOB_SECONDS, "number": next(_numbers)}}}
