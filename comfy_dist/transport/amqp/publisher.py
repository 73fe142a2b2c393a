"""Confirmed publishing that outlives a lost connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

import aiormq
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelNotFoundEntity, PublishError

from comfy_dist.errors import BrokerUnavailable
from comfy_dist.transport.amqp.connection import LOST, Connection, SetUp
from comfy_dist.transport.amqp.looking import look
from comfy_dist.transport.amqp.outgoing import Outgoing, transient

#: Seconds in which the broker must have confirmed.
CONFIRM_TIMEOUT = 10.0
#: Between two tries for a channel: what refuses one tells nobody when it no longer would.
RETRY_SECONDS = 0.1

T = TypeVar("T")


class Publisher:
    """Publishes over one connection: `confirm` with the broker's confirmation, `cast` without."""

    def __init__(self, connection: Connection, declare: SetUp) -> None:
        self._connection = connection
        self._declare = declare
        self._confirmed: AbstractChannel | None = None
        self._plain: AbstractChannel | None = None

    async def set_up(self, connection: AbstractConnection) -> None:
        """Open the channels of a new connection."""
        self._confirmed = await connection.channel(publisher_confirms=True, on_return_raises=True)
        self._plain = await connection.channel(publisher_confirms=False)

    async def confirm(self, message: Outgoing, routing_key: str, exchange: str = "") -> None:
        """Publish until the broker confirms; again after a lost connection, with the same message id.

        Raises BrokerUnavailable where that takes too long: then it may have arrived, if it was sent.
        """
        sent = False

        async def publish() -> None:
            nonlocal sent
            await self._connection.ready()
            sent = True
            await self._publish_or_declare(message, routing_key, exchange)

        try:
            await self._insist(publish, CONFIRM_TIMEOUT)
        except BrokerUnavailable as error:
            error.sent = sent
            raise

    async def attempt(self, message: Outgoing, routing_key: str, exchange: str = "") -> bool:
        """As confirm(), but False where no queue takes it."""

        async def publish() -> bool:
            try:
                await self._publish(message, routing_key, exchange)
            except PublishError:
                return False
            return True

        return await self._insist(publish, CONFIRM_TIMEOUT)

    async def reaches(self, queue: str) -> bool:
        """Whether a queue of that name exists, told by a message that comes back or does not."""
        return await self.attempt(transient(b""), queue)

    async def declare(self, queue: str, arguments: Mapping[str, Any]) -> None:
        """Make a durable queue, where there is none."""

        async def declare() -> None:
            async with (await self._connection.ready()).channel() as channel:
                await channel.declare_queue(queue, durable=True, arguments=dict(arguments))

        await self._insist(declare, CONFIRM_TIMEOUT)

    async def count(self, queue: str) -> int:
        """Messages that lie ready; 0 where there is no such queue."""
        ready, _ = await self._look(queue)
        return ready

    async def consumers(self, queue: str) -> int:
        """Who consumes from it; 0 where there is no such queue."""
        _, consumers = await self._look(queue)
        return consumers

    async def _look(self, queue: str) -> tuple[int, int]:
        async def ask() -> tuple[int, int]:
            try:
                async with (await self._connection.ready()).channel() as channel:
                    return await look(channel, queue)
            except ChannelNotFoundEntity:
                return 0, 0

        return await self._insist(ask, CONFIRM_TIMEOUT)

    async def _insist(self, action: Callable[[], Awaitable[T]], timeout: float) -> T:
        """Again after a lost connection. Raises BrokerUnavailable when it is not done after `timeout` seconds."""
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        try:
            async with asyncio.timeout(timeout):
                while True:
                    # The library swallows some cancellations, that of the timeout too.
                    if task.cancelling() > before:
                        raise asyncio.CancelledError
                    try:
                        return await action()
                    except LOST:
                        # A channel can be lost alone (a queue deleted under it); the next connection mends all.
                        await self._reopen()
        except TimeoutError:
            raise BrokerUnavailable(
                f"RabbitMQ at {self._connection.place} did not confirm within {timeout:g} s; "
                "see whether it is reachable and has disk and memory left."
            ) from None

    async def _publish_or_declare(self, message: Outgoing, routing_key: str, exchange: str) -> None:
        try:
            await self._publish(message, routing_key, exchange)
        except PublishError:
            # Came back: the queue was deleted under us.
            await self._declare(await self._connection.ready())
            await self._publish(message, routing_key, exchange)

    async def cast(self, message: Outgoing, routing_key: str, exchange: str) -> None:
        """Publish a transient message; lost where there is no connection."""
        if not self._connection.up or self._plain is None:
            return
        with contextlib.suppress(*LOST):
            if self._plain.is_closed:
                # An exchange that is gone closes the channel; the next connection declares it.
                self._plain = await (await self._connection.ready()).channel(publisher_confirms=False)
            # Waits where the broker takes less than is published, so that nothing heaps up here.
            await _send(self._plain, message, routing_key, exchange, mandatory=False, wait=True)

    async def _publish(self, message: Outgoing, routing_key: str, exchange: str) -> None:
        await self._connection.ready()
        channel = self._confirmed
        assert channel is not None
        # The confirmation is waited for; that it was written need not be.
        await _send(channel, message, routing_key, exchange, mandatory=True, wait=False)

    async def _reopen(self) -> None:
        """Try for another channel, after a moment. Where there is no connection, the next try waits for one."""
        await asyncio.sleep(RETRY_SECONDS)
        if self._connection.up and (self._confirmed is None or self._confirmed.is_closed):
            with contextlib.suppress(*LOST):
                connection = await self._connection.ready()
                self._confirmed = await connection.channel(publisher_confirms=True, on_return_raises=True)


async def _send(
    channel: AbstractChannel, message: Outgoing, routing_key: str, exchange: str, *, mandatory: bool, wait: bool
) -> None:
    """Publish below aio_pika, whose Message and Exchange cost as much again as the rest."""
    underlay = cast(aiormq.Channel, await channel.get_underlay_channel())
    await underlay.basic_publish(
        message.body,
        exchange=exchange,
        routing_key=routing_key,
        properties=message.properties,
        mandatory=mandatory,
        wait=wait,
    )
