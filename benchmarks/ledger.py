"""P12 (with a long history) and P13: a frontend with 100,000 finished jobs of 100 kB each."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import psutil

from benchmarks.figures import p50, report
from benchmarks.servers import folder
from benchmarks.studio import job
from comfy_dist.ledger import Ledger, Retention
from comfy_dist.transport import Bookmark, Recorded
from tests.support.processes import module, running
from tests.support.rabbitmq import free_port, own_broker

JOBS = 100_000
#: Jobs that are made and folded; the others are copies of their rows, for what is measured is not the folding.
FOLDED = 1000
ASKED = 20
ROOM = Retention(seconds=1e9, bytes=2**40)


async def run() -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(own_broker())
        small = await _measured(broker.uri, JOBS // 10)
        large = await _measured(broker.uri, JOBS)
    bounds = {"rss": "<= 200 MB", "start": "<= 2 s", "page": "<= 20 ms", "search": "", "jobs": ""}
    shown = {
        "rss": ("P12", "frontend: resident memory", "MB"),
        "start": ("P13", "from the start of the process to the first GET /history?max_items=64", "s"),
        "page": ("P13", "GET /history?max_items=64", "ms"),
        "search": ("P13", "GET /history?max_items=64&query= with two words", "ms"),
        "jobs": ("P13", "GET /jobs?limit=64", "ms"),
    }
    for name, (target, what, unit) in shown.items():
        report(
            target,
            f"{JOBS:,} finished jobs: {what}",
            large[name],
            unit,
            yardstick=small[name],
            of=f"{JOBS // 10:,} jobs",
            bound=bounds[name],
        )


async def _measured(uri: str, jobs: int) -> dict[str, float]:
    with folder() as here:
        await fill(here / "state" / "ledger.sqlite", jobs)
        port = free_port()
        command = module(
            "comfy_dist.cli.comfyui",
            *("--distributed-queue-connection-uri", uri, "--distributed-queue-frontend"),
            *("--cwd", str(here), "--state-directory", str(here / "state"), "--port", str(port)),
            *("--event-retention", "36500d", "--event-retention-size", "1000"),
            *("--distributed-queue-name", f"bench{jobs}"),
        )
        began = time.perf_counter()
        with running(command, cwd=here) as process:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
                figures = {"start": await _first(session) - began}
                for name, path in (
                    ("page", "/history?max_items=64"),
                    ("search", "/history?max_items=64&query=watercolor+castle"),
                    ("jobs", "/jobs?limit=64"),
                ):
                    figures[name] = p50([await _milliseconds(session, path) for _ in range(ASKED)])
                await _milliseconds(session, "/history?max_items=1000")
            figures["rss"] = psutil.Process(process.process.pid).memory_info().rss / 1e6
        return figures


async def _first(session: aiohttp.ClientSession) -> float:
    while True:
        try:
            await _milliseconds(session, "/history?max_items=64")
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.01)
        else:
            return time.perf_counter()


async def _milliseconds(session: aiohttp.ClientSession, path: str) -> float:
    began = time.perf_counter()
    async with session.get(path) as answer:
        assert answer.status == 200, path
        async for _ in answer.content.iter_any():
            pass
    return (time.perf_counter() - began) * 1000


async def fill(path: Path, jobs: int) -> None:
    """A ledger with so many finished jobs; nothing in it says how far the log was read."""
    chance = random.Random(1)
    ledger = Ledger(path, retention=ROOM)
    await ledger.open()
    nowhere = Bookmark(offset=0, message_id="")
    for _ in range(FOLDED // 50):
        events = [event for _ in range(50) for event in job(chance)]
        await ledger.apply([Recorded(event, nowhere) for event in events])
    for done in range(FOLDED, jobs, FOLDED):
        await ledger.read(lambda connection, done=done: _copy(connection, done))
    await ledger.read(lambda connection: connection.execute("DELETE FROM bookmark"))
    await ledger.close()


def _copy(connection: sqlite3.Connection, by: int) -> None:
    """The first rows once more, as jobs that came later."""
    for statement in (
        "INSERT INTO jobs SELECT arrival + :by, id || '-' || :by, state, number, urgency, client_id, user, "
        "workers, created_at, started_at, ended_at, rank + :by, workflow_id, hidden FROM jobs "
        "WHERE arrival <= :first",
        "INSERT INTO submissions SELECT arrival + :by, body FROM submissions WHERE arrival <= :first",
        "INSERT INTO results SELECT arrival + :by, body FROM results WHERE arrival <= :first",
        "INSERT INTO words (rowid, text) SELECT rowid + 2 * :by, text FROM words WHERE rowid < 2 * :first + 2",
    ):
        connection.execute(statement, {"by": by, "first": FOLDED})
