"""P1, P2, P3: a prompt's way, embedded and over RabbitMQ, against a stock ComfyUI and the broker itself."""

from __future__ import annotations

from contextlib import AsyncExitStack

from benchmarks.broker import measure_broker
from benchmarks.figures import p50, p99, report
from benchmarks.prompts import Client, client, turn_of
from benchmarks.servers import cluster, embedded, stock
from tests.support.rabbitmq import own_broker

ROUNDS = 6
ONE_AFTER_ANOTHER = 100
AT_ONCE = 300
WARM_UP = 30


async def run() -> None:
    """Rounds alternate between the servers, so that what else the machine does meets them alike."""
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(own_broker())
        servers = [
            stack.enter_context(stock()),
            stack.enter_context(embedded()),
            stack.enter_context(cluster(broker.uri)),
        ]
        clients: dict[str, Client] = {}
        for server in servers:
            if server is not None:
                clients[server.name] = await stack.enter_async_context(client(server.address))
        times: dict[str, list[float]] = {name: [] for name in clients}
        finished: dict[str, list[float]] = {name: [] for name in clients}
        accepted: dict[str, list[float]] = {name: [] for name in clients}
        for connected in clients.values():
            await connected.one_after_another(WARM_UP)
        round_trips: list[float] = []
        for _ in range(ROUNDS):
            for name in clients:
                async with turn_of(clients[name], clients.values()) as connected:
                    times[name] += await connected.one_after_another(ONE_AFTER_ANOTHER)
            round_trips += await measure_broker(broker.uri, ONE_AFTER_ANOTHER)
        for _ in range(2):
            for name in clients:
                async with turn_of(clients[name], clients.values()) as connected:
                    rates = await connected.at_once(AT_ONCE)
                accepted[name].append(rates[0])
                finished[name].append(rates[1])
    bounds = {("P1", "p50"): "<= 1.25", ("P2", "p50"): "<= 2.5", ("P2", "p99"): "<= 4"}
    for target, name in (("P1", "embedded"), ("P2", "cluster")):
        for measure, of in ((p50, "p50"), (p99, "p99")):
            report(
                target,
                f"{name}: 2-node prompt, one after another, {of}",
                measure(times[name]),
                "ms",
                yardstick=measure(times["stock"]) if "stock" in times else None,
                of=f"stock ComfyUI, {of}",
                bound=bounds.get((target, of), ""),
            )
    report(
        "P2",
        "cluster: 2-node prompt, p50, against the broker alone",
        p50(times["cluster"]),
        "ms",
        yardstick=p50(round_trips),
        of="publish + confirm + deliver on a quorum queue",
    )
    for name in ("embedded", "cluster"):
        report(
            "P3",
            f"{name}: {AT_ONCE} prompts at once, finished",
            max(finished[name]),
            "1/s",
            yardstick=max(finished["stock"]) if "stock" in finished else None,
            of="stock ComfyUI",
            bound=">= 1.0" if name == "cluster" else "",
        )
        report(
            "P3",
            f"{name}: {AT_ONCE} prompts at once, accepted",
            max(accepted[name]),
            "1/s",
            yardstick=max(accepted["stock"]) if "stock" in accepted else None,
            of="stock ComfyUI",
        )
