"""How calls ended: a worker's durable queue, read through lost connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable

from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage

from comfy_dist.messages import CallEnded, parse_call_ended
from comfy_dist.transport.amqp.arrivals import consume
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
                arrivals = await consume(channel, queue, PREFETCH)
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


def _ended(message: DeliveredMessage) -> CallEnded | None:
    try:
        return parse_call_ended(body_of(message))
    except ValueError:
        return None
