"""P5, P6: a batch whose items wait, fanned out over workers and in again, against one worker alone."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import time
from contextlib import AsyncExitStack
from typing import Any

from benchmarks import items_node
from benchmarks.figures import p50, report
from benchmarks.prompts import Client, client
from benchmarks.servers import folder, frontend, worker
from benchmarks.workers import Workers
from tests.support.rabbitmq import own_broker

WORLDS = (1, 2, 4, 8)
#: Of P5 and P6.
WORKERS, ITEMS = 8, 64
ITEM_SECONDS = 0.05
#: How much slower one worker is in P6.
SLOWER = 4.0
ROUNDS = 7
#: Seconds for the workers to hear who rests.
SETTLE_SECONDS = 1.0

_numbers = itertools.count(1)


async def run() -> None:
    """All workers run from the start; those that are too many are paused. The first one is the parent."""
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(own_broker())
        here = stack.enter_context(folder())
        (here / "custom_nodes").mkdir()
        shutil.copy(items_node.__file__, here / "custom_nodes")
        names = [f"worker{number}" for number in range(max(WORLDS))]
        slow = names[WORKERS - 1]
        for name in names:
            stack.enter_context(
                worker(broker.uri, here, name, **({"BENCHMARK_SLOW": "1"} if name == slow else {}))
            )
        server = stack.enter_context(frontend(broker.uri, here))
        workers = await stack.enter_async_context(Workers(server.address))
        await workers.all_idle(len(names))
        connected = await stack.enter_async_context(client(server.address))
        took: dict[tuple[int, int], float] = {}
        for world in WORLDS:
            await workers.work_with(names[:world], names[world:])
            await asyncio.sleep(SETTLE_SECONDS)
            took[world, 8 * world] = await _median(connected, 8 * world)
            if world == 1:
                took[world, ITEMS] = await _median(connected, ITEMS, rounds=3)
            if world == WORKERS:
                unequal = await _median(connected, ITEMS, SLOWER)
                took[world, 10 * ITEMS] = await _median(connected, 10 * ITEMS, rounds=1)
    _report(took, unequal)


def _report(took: dict[tuple[int, int], float], unequal: float) -> None:
    alone = took[1, ITEMS]
    what = f"{ITEMS} items of {ITEM_SECONDS * 1000:g} ms on {WORKERS} workers, fan-in included"
    times = f"{alone:.3f} s on one worker / {took[WORKERS, ITEMS]:.3f} s"
    report("P5", f"{what}: {times}", alone / took[WORKERS, ITEMS], "times as fast", bound=">= 7.2")
    ideal = ITEMS * ITEM_SECONDS / (WORKERS - 1 + 1 / SLOWER)
    report(
        "P6",
        f"the same, one worker {SLOWER:g} times slower: ideal for those speeds / time",
        ideal / unequal,
        f"of {ideal:.3f} s",
        bound=">= 0.9",
    )
    for world in WORLDS[1:]:
        of = "8 items on one"
        what = f"{8 * world} items on {world} workers"
        report("P5", what, took[world, 8 * world], "s", yardstick=took[1, 8], of=of)
    most = took[WORKERS, 10 * ITEMS]
    what = f"{10 * ITEMS} items on {WORKERS} workers"
    report("P5", what, most, "s", yardstick=10 * took[WORKERS, ITEMS], of=f"10 times {ITEMS} items")


async def _median(connected: Client, items: int, slower: float = 1.0, rounds: int = ROUNDS) -> float:
    """Seconds from the post to the websocket's last message. Of the first round nothing is counted."""
    return p50([await _once(connected, items, slower) for _ in range(rounds + 1)][1:])


async def _once(connected: Client, items: int, slower: float) -> float:
    began = time.perf_counter()
    posted = await connected.post(_prompt(items, slower), worker="worker0")
    while await connected.ended() != posted:
        pass
    return time.perf_counter() - began


def _prompt(items: int, slower: float) -> dict[str, Any]:
    """Never cached."""
    made = {"count": items, "size": 8, "number": next(_numbers)}
    waits = {"images": ["2", 0], "seconds": ITEM_SECONDS, "slower": slower}
    return {
        "1": {"class_type": "BenchmarkItems", "inputs": made},
        "2": {"class_type": "ClusterFanOutImage", "inputs": {"input": ["1", 0]}},
        "3": {"class_type": "BenchmarkWaitEach", "inputs": waits},
        "4": {"class_type": "ClusterFanInImages", "inputs": {"input": ["3", 0]}},
        "5": {"class_type": "BenchmarkCount", "inputs": {"images": ["4", 0]}},
    }
