"""What a worker adds to a prompt of the stock ComfyUI that it drives."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack

from benchmarks.figures import p50, p99, report
from benchmarks.prompts import client, turn_of
from benchmarks.servers import attached, child, stock

ROUNDS = 6
ONE_AFTER_ANOTHER = 50
WARM_UP = 20


async def run() -> None:
    """The same ComfyUI asked directly and through `comfyui --engine`, and one that is a child, in turns."""
    async with AsyncExitStack() as stack:
        own = stack.enter_context(stock())
        if own is None:
            sys.stderr.write("driven: there is nothing to drive; name a stock ComfyUI with COMFYUI_DIR.\n")
            return
        servers = [own, stack.enter_context(attached(own)), stack.enter_context(child())]
        clients = {server.name: await stack.enter_async_context(client(server.address)) for server in servers}
        times: dict[str, list[float]] = {name: [] for name in clients}
        for connected in clients.values():
            await connected.one_after_another(WARM_UP)
        for _ in range(ROUNDS):
            for name in clients:
                async with turn_of(clients[name], clients.values()) as connected:
                    times[name] += await connected.one_after_another(ONE_AFTER_ANOTHER)
    for name in ("attached", "child"):
        for measure, of in ((p50, "p50"), (p99, "p99")):
            report(
                "driven",
                f"{name}: 2-node prompt through our frontend and worker, {of}",
                measure(times[name]),
                "ms",
                yardstick=measure(times["stock"]),
                of=f"stock ComfyUI asked directly, {of}",
            )
