"""What a queue or stream brings, over one channel."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aio_pika.abc import AbstractChannel
from aiormq.abc import DeliveredMessage


async def consume(
    channel: AbstractChannel, queue: str, prefetch: int, arguments: Mapping[str, Any] | None = None
) -> asyncio.Queue[DeliveredMessage | None]:
    """Its messages; None stands for the end of this channel or consumer.

    `prefetch`: how many the broker sends ahead of acknowledgements. Raises what a lost channel does
    (`connection.LOST`).
    """
    arrivals: asyncio.Queue[DeliveredMessage | None] = asyncio.Queue()
    await channel.set_qos(prefetch_count=prefetch)
    channel.close_callbacks.add(lambda *_: arrivals.put_nowait(None), weak=False)
    underlay = await channel.get_underlay_channel()
    underlay.on_consumer_cancel_callbacks.add(lambda _: arrivals.put_nowait(None))

    async def arrived(message: DeliveredMessage) -> None:
        arrivals.put_nowait(message)

    await underlay.basic_consume(queue, arrived, arguments=dict(arguments or {}))
    return arrivals
