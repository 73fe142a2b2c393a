"""P17: what the announcements of a thousand workers cost a frontend."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from benchmarks.figures import p50, report
from benchmarks.servers import folder, frontend, until_it_answers, worker
from comfy_dist.messages import Announcement, CurrentJob, WorkerState
from comfy_dist.transport.amqp import AmqpTransport
from tests.support.rabbitmq import own_broker

SIZES = (100, 1_000)
#: Seconds between two announcements of a worker.
EACH_SECONDS = 5.0
#: Seconds that are measured, and those before in which everybody becomes known.
MEASURED, BEFORE = 12.0, 6.0
#: Answers of GET /distributed/workers.
ASKED = 10


async def run() -> None:
    """One worker is real, and tells what the others announce that they can run."""
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(own_broker())
        here = stack.enter_context(folder())
        stack.enter_context(worker(broker.uri, here))
        server = stack.enter_context(frontend(broker.uri, here))
        until_it_answers(f"{server.address}/object_info/PreviewImage", b"PreviewImage")
        session = await stack.enter_async_context(aiohttp.ClientSession())
        transport = AmqpTransport(broker.uri, "comfyui")
        await transport.open()
        stack.push_async_callback(transport.close)
        real = await _first(transport)
        idle = await _processor(server.pid)
        shares, shown = {}, {}
        for size in SIZES:
            async with _announcing(transport, real, size):
                await asyncio.sleep(BEFORE)
                shares[size] = await _processor(server.pid)
                shown[size] = await _shown(session, server.address, size + 1)
    for size in SIZES:
        smaller = size == SIZES[0]
        report(
            "P17",
            f"{size:,} workers announcing: processor of one frontend",
            shares[size] * 100,
            "% of a core",
            yardstick=(idle if smaller else shares[SIZES[0]]) * 100,
            of="one worker" if smaller else f"the same with {SIZES[0]}",
            bound="" if smaller else "<= 15 % of a core",
        )
    report(
        "P17",
        f"GET /distributed/workers with {SIZES[1]:,}",
        shown[SIZES[1]],
        "ms",
        yardstick=shown[SIZES[0]],
        of=f"the same with {SIZES[0]}",
    )


async def _first(transport: AmqpTransport) -> Announcement:
    """What the real worker announces."""
    async with transport.announcements() as announcements:
        async for announcement in announcements:
            if announcement.catalogue:
                return announcement
    raise RuntimeError("The connection was closed.")


@asynccontextmanager
async def _announcing(transport: AmqpTransport, real: Announcement, size: int) -> AsyncIterator[None]:
    """So many workers that announce themselves, one after another; every other one executes something."""

    async def announce() -> None:
        began, count = time.monotonic(), 0
        while True:
            await transport.announce(_worker(real, count % size, count))
            count += 1
            await asyncio.sleep(max(0.0, began + count * EACH_SECONDS / size - time.monotonic()))

    announcing = asyncio.create_task(announce())
    try:
        yield
    finally:
        announcing.cancel()
        await asyncio.gather(announcing, return_exceptions=True)


def _worker(real: Announcement, number: int, count: int) -> Announcement:
    busy = number % 2 == 1
    job = CurrentJob(id=f"job-{number}-{count}", node="3", value=count % 20, max=20, device="cuda:0")
    models = tuple(f"checkpoints/model_{number % 7 + each}.safetensors" for each in range(4))
    return real.model_copy(
        update={
            "id": f"worker-{number}-0123abcd",
            "name": f"worker-{number}",
            "host": f"host-{number // 4}",
            "state": WorkerState.BUSY if busy else WorkerState.IDLE,
            "jobs": (job,) if busy else (),
            "models": models,
            "finished": count,
        }
    )


async def _processor(pid: int) -> float:
    """Share of a core that the process uses."""
    before, began = _used(pid), time.monotonic()
    await asyncio.sleep(MEASURED)
    return (_used(pid) - before) / (time.monotonic() - began)


def _used(pid: int) -> float:
    """Seconds of processor time, of all its threads (schedstat: of the kernel's scheduler, not of its ticks)."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9


async def _shown(session: aiohttp.ClientSession, address: str, at_least: int) -> float:
    """Milliseconds in which all workers are shown."""
    times = []
    for _ in range(ASKED):
        began = time.perf_counter()
        async with session.get(f"{address}/distributed/workers") as answer:
            found = (await answer.json())["workers"]
        times.append((time.perf_counter() - began) * 1000)
        assert len(found) >= at_least, f"{len(found)} workers are shown."
    return p50(times)
