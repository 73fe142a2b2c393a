"""The broker's own figures: a quorum queue without anything of ours."""

from __future__ import annotations

import asyncio
import time
import uuid

import aio_pika


async def measure_broker(uri: str, count: int) -> list[float]:
    """Milliseconds of publish + confirm + deliver, one after another."""
    connection = await aio_pika.connect(uri)
    async with connection:
        channel = await connection.channel()
        name = f"bench-{uuid.uuid4().hex}"
        queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
        arrived: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()

        async def arrive(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            arrived.put_nowait(message)

        await queue.consume(arrive)
        times = []
        for _ in range(count):
            began = time.perf_counter()
            message = aio_pika.Message(b"x" * 1000, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, name)
            await (await arrived.get()).ack()
            times.append((time.perf_counter() - began) * 1000)
        await channel.queue_delete(name)
        return times
