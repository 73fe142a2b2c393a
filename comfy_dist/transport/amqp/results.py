"""How calls ended: a worker's durable queue, read through lost connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable

from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.abc import DeliveredMessage

from comfy_dist.messages import CallEnded, parse_call_ended
from comfy_dist.transport.amqp.connection import LOST, Connection, unless_cancelled
from comfy_dist.transport.amqp.delivery import acknowledge
from comfy_dist.transport.amqp.outgoing import body_of

log = logging.getLogger(__name__)

#: Ends that the broker sends ahead.
PREFETCH = 64
CLOSE_SECONDS = 5.0
RETRY_SECONDS = 0.2


async def receive(
    connection: Connection, queue: str, declare: Callable[[AbstractConnection], Awaitable[None]]
) -> AsyncGenerator[CallEnded | None, None]:
    """What comes, each acknowledged when the next is asked for; None: one that cannot be read."""
    while True:
        try:
            live = await connection.ready()
            await declare(live)
            channel = await live.channel()
            try:
                arrivals = await _consume(channel, queue)
                unless_cancelled()
                while (message := await arrivals.get()) is not None:
                    yield _ended(message)
                    await acknowledge(message)
            finally:
                with contextlib.suppress(*LOST, TimeoutError):
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await channel.close()
        except LOST as error:
            unless_cancelled(error)
            log.debug("Reading %s again after: %s", queue, error)
        await asyncio.sleep(RETRY_SECONDS)


async def _consume(channel: AbstractChannel, queue: str) -> asyncio.Queue[DeliveredMessage | None]:
    """What comes; None stands for the end of this channel or consumer."""
    arrivals: asyncio.Queue[DeliveredMessage | None] = asyncio.Queue()
    await channel.set_qos(prefetch_count=PREFETCH)
    channel.close_callbacks.add(lambda *_: arrivals.put_nowait(None), weak=False)
    underlay = await channel.get_underlay_channel()
    underlay.on_consumer_cancel_callbacks.add(lambda _: arrivals.put_nowait(None))

    async def arrived(message: DeliveredMessage) -> None:
        arrivals.put_nowait(message)

    await underlay.basic_consume(queue, arrived)
    return arrivals


def _ended(message: DeliveredMessage) -> CallEnded | None:
    try:
        return parse_call_ended(body_of(message))
    except ValueError:
        return None
