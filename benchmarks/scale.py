"""P4: what N workers finish against N times what one does, with jobs that wait."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import aiohttp

from benchmarks import waiting_node
from benchmarks.figures import report
from benchmarks.prompts import Client, client
from benchmarks.servers import START_SECONDS, folder, frontend, worker
from tests.support.rabbitmq import own_broker

SIZES = (1, 2, 4, 8, 16)
#: Seconds that each job waits.
JOB_SECONDS = 0.5
#: Jobs for each worker; the first and the last are not counted.
JOBS_EACH = 12

#: As GET /distributed/workers shows them.
_Workers: TypeAlias = list[dict[str, Any]]

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
        cluster = await stack.enter_async_context(_Cluster(server.address))
        await cluster.until(lambda found: sum(each["state"] == "idle" for each in found) == len(names))
        connected = await stack.enter_async_context(client(server.address))
        rates: dict[int, float] = {}
        for size in SIZES:
            await cluster.work_with(names[:size], names[size:])
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


class _Cluster:
    """Asks a frontend about its workers."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def __aenter__(self) -> _Cluster:
        self._session = await aiohttp.ClientSession().__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def work_with(self, working: Sequence[str], resting: Sequence[str]) -> None:
        for deed, names in (("resume", working), ("pause", resting)):
            for name in names:
                told = self._session.post(f"{self._address}/distributed/{deed}", json={"worker": name})
                async with told as answer:
                    answer.raise_for_status()
        paused = set(resting)
        await self.until(lambda found: {each["name"] for each in found if each["paused"]} == paused)

    async def until(self, is_so: Callable[[_Workers], bool]) -> None:
        """Wait until that is true of the workers."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                async with self._session.get(f"{self._address}/distributed/workers") as answer:
                    if is_so((await answer.json())["workers"]):
                        return
                await asyncio.sleep(0.2)
