"""P10, P11: from a node's report of its progress on a worker to the websockets of a frontend, over RabbitMQ."""

from __future__ import annotations

import asyncio
import json
import shutil
import struct
import time
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from benchmarks.broker import measure_broker
from benchmarks.figures import p50, p99, report
from benchmarks.servers import folder, frontend, until_it_answers, worker
from tests.support.rabbitmq import own_broker

SECONDS = 8
#: Progress reports in a second.
RATE = 200.0
#: Sockets that are shown the same previews, and previews in a second.
SOCKETS, PREVIEW_RATE = 50, 20.0
ROUND_TRIPS = 200
#: Pixels; of noise, that makes a JPEG of about 30 kB.
SIDE = 148


@dataclass
class _Seen:
    """What one socket received of a prompt, and when, in seconds since the epoch."""

    #: By the value that is reported: 1, 2, 3 …
    progress: dict[int, float] = field(default_factory=dict)
    previews: list[float] = field(default_factory=list)
    preview_bytes: int = 0
    reported: list[float] = field(default_factory=list)


async def run() -> None:
    """The node's clock is the clock of this process."""
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(own_broker())
        here = stack.enter_context(folder())
        (here / "custom_nodes").mkdir()
        shutil.copy(Path(__file__).with_name("progress_node.py"), here / "custom_nodes")
        stack.enter_context(worker(broker.uri, here))
        server = stack.enter_context(frontend(broker.uri, here))
        until_it_answers(f"{server.address}/object_info/BenchmarkReport", b"BenchmarkReport")
        session = await stack.enter_async_context(aiohttp.ClientSession())
        await _execute(session, server.address, 1, 20, RATE, SIDE)
        (alone,) = await _execute(session, server.address, 1, round(RATE * SECONDS), RATE, 0)
        many = await _execute(session, server.address, SOCKETS, round(PREVIEW_RATE * SECONDS), PREVIEW_RATE, SIDE)
        round_trips = await measure_broker(broker.uri, ROUND_TRIPS)
    late = [(alone.progress[value] - alone.reported[value - 1]) * 1000 for value in alone.progress]
    bounds = {("P10", "p50"): "<= 3 ms", ("P10", "p99"): "<= 15 ms", ("P11", "p99"): "<= 50 ms"}

    def tell(target: str, what: str, late: Sequence[float]) -> None:
        for measure, of in ((p50, "p50"), (p99, "p99")):
            report(
                target,
                f"{what}, {of}",
                measure(late),
                "ms",
                yardstick=measure(round_trips),
                of=f"publish + confirm + deliver on a quorum queue, {of}",
                bound=bounds.get((target, of), ""),
            )

    tell("P10", f"progress from node to websocket, {RATE:g} in a second", late)
    size = round(many[0].preview_bytes / max(1, len(many[0].previews)) / 1000)
    what = f"{PREVIEW_RATE:g} previews of {size} kB in a second to each of {SOCKETS} websockets"
    tell(
        "P11",
        what,
        [
            (received - reported) * 1000
            for seen in many
            for reported, received in zip(seen.reported, seen.previews, strict=False)
        ],
    )
    sent = sum(len(seen.reported) for seen in many)
    lost = sent - sum(len(seen.previews) for seen in many)
    report("P11", f"{what}: lost", lost, "previews", yardstick=sent, of="sent", bound="<= 0")


async def _execute(
    session: aiohttp.ClientSession, address: str, sockets: int, count: int, rate: float, side: int
) -> list[_Seen]:
    """One prompt, and what each of so many sockets of its client received."""
    client = uuid.uuid4().hex
    async with AsyncExitStack() as stack:
        url = f"{address}/ws?clientId={client}"
        opened = [await stack.enter_async_context(session.ws_connect(url)) for _ in range(sockets)]
        for socket in opened:
            await socket.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        watching = [asyncio.create_task(_watch(socket)) for socket in opened]
        inputs = {"count": count, "rate": rate, "side": side, "number": time.time_ns() % 2**31}
        prompt = {"1": {"class_type": "BenchmarkReport", "inputs": inputs}}
        async with session.post(f"{address}/prompt", json={"prompt": prompt, "client_id": client}) as answer:
            answer.raise_for_status()
        return await asyncio.gather(*watching)


async def _watch(socket: aiohttp.ClientWebSocketResponse) -> _Seen:
    """Until the prompt has ended."""
    seen = _Seen()
    async for message in socket:
        now = time.time()
        if message.type is aiohttp.WSMsgType.BINARY:
            if struct.unpack_from(">I", message.data)[0] == 4:
                seen.previews.append(now)
                seen.preview_bytes += len(message.data)
        elif message.type is aiohttp.WSMsgType.TEXT:
            event = json.loads(message.data)
            if event["type"] == "progress":
                seen.progress[event["data"]["value"]] = now
            elif event["type"] == "executed":
                seen.reported = event["data"]["output"]["times"]
            elif event["type"] == "executing" and event["data"]["node"] is None:
                break
    return seen
