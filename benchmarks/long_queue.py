"""P16: a queue of 10,000 prompts on one frontend over RabbitMQ."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import aiohttp
import psutil

from benchmarks.figures import p50, report
from benchmarks.prompts import prompt
from benchmarks.servers import folder, until_it_answers
from tests.support.processes import module, running
from tests.support.rabbitmq import own_broker

JOBS = 10_000
#: Clients that post one after another.
CLIENTS = 16
ASKED = 10


async def run() -> None:
    with ExitStack() as stack:
        here = stack.enter_context(folder())
        broker = stack.enter_context(own_broker())
        at = ["--distributed-queue-connection-uri", broker.uri, "--cwd", str(here), "--logging-level", "WARNING"]
        front = ("--distributed-queue-frontend", "--port", "0", "--state-directory", str(here / "state"))
        log = ["--logging-level", "INFO"]
        server = stack.enter_context(running(module("comfy_dist.cli.comfyui", *at[:4], *front, *log), cwd=here))
        with running(module("comfy_dist.cli.worker", *at, "--cpu", "--health-port", "0"), cwd=here):
            address = await asyncio.to_thread(server.wait_for, r"ComfyUI is at (\S+)")
            until_it_answers(f"{address[1]}/object_info/PreviewImage", b"PreviewImage")
        # The worker is gone: what it could run is known, and everything waits.
        async with aiohttp.ClientSession(address[1]) as session:
            small = await _submitted(session, JOBS // 10)
            short = p50([await _asked(session) for _ in range(ASKED)])
            frontend = psutil.Process(server.process.pid)
            before = _processor_seconds(frontend)
            large = await _submitted(session, JOBS - JOBS // 10)
            own = (_processor_seconds(frontend) - before) / (JOBS - JOBS // 10) * 1000
            long = p50([await _asked(session) for _ in range(ASKED)])
    of = f"with {JOBS // 10:,} queued"
    report("P16", f"submissions, to {JOBS:,} queued", large, "1/s", yardstick=small, of=of, bound=">= 400 1/s")
    report("P16", "the frontend's own processor time for a submission", own, "ms")
    report("P16", f"GET /queue with {JOBS:,} queued", long, "ms", yardstick=short, of=of, bound="<= 200 ms")


async def _submitted(session: aiohttp.ClientSession, count: int) -> float:
    """Prompts accepted per second."""
    left = iter(range(count))

    async def post() -> None:
        for _ in left:
            async with session.post("/prompt", json={"prompt": prompt(), "client_id": "bench"}) as answer:
                assert answer.status == 200, await answer.text()

    began = time.perf_counter()
    await asyncio.gather(*(post() for _ in range(CLIENTS)))
    return count / (time.perf_counter() - began)


def _processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _asked(session: aiohttp.ClientSession) -> float:
    began = time.perf_counter()
    async with session.get("/queue") as answer:
        await answer.read()
    return (time.perf_counter() - began) * 1000
