"""Confirmed publishing that outlives a lost connection."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
import zlib
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import PublishError

from comfy_dist.errors import BrokerUnavailable
from comfy_dist.transport.amqp.connection import LOST, Connection, SetUp

#: Seconds in which the broker must have confirmed.
CONFIRM_TIMEOUT = 10.0
#: Bodies above this many bytes travel compressed (RFC 9110's "deflate" is zlib's format).
COMPRESS_ABOVE = 4096


def pack(body: bytes, **properties: Any) -> aio_pika.Message:
    """A persistent JSON message with an id, compressed where that pays."""
    encoding = None
    if len(body) > COMPRESS_ABOVE:
        body, encoding = zlib.compress(body, 1), "deflate"
    return aio_pika.Message(
        body,
        **{
            "message_id": uuid.uuid4().hex,
            "content_type": "application/json",
            "content_encoding": encoding,
            "delivery_mode": aio_pika.DeliveryMode.PERSISTENT,
            **properties,
        },
    )


def unpack(message: AbstractIncomingMessage) -> bytes:
    """The body, decompressed. Raises ValueError where that fails."""
    if message.content_encoding == "deflate":
        try:
            return zlib.decompress(message.body)
        except zlib.error as error:
            raise ValueError(f"a body that is not what its encoding says: {error}") from None
    return message.body


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

    async def confirm(
        self,
        message: aio_pika.Message,
        routing_key: str,
        exchange: str = "",
        timeout: float = CONFIRM_TIMEOUT,
    ) -> None:
        """Publish until the broker confirms; again after a lost connection, with the same message id.

        Raises BrokerUnavailable when `timeout` seconds pass first: then it may or may not have arrived.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    try:
                        await self._publish_or_declare(message, routing_key, exchange)
                    except LOST:
                        # A channel can be lost alone (a queue deleted under it); the next connection mends all.
                        await self._reopen()
                    else:
                        return
        except TimeoutError:
            raise BrokerUnavailable(
                f"RabbitMQ at {self._connection.place} did not confirm within {timeout:g} s; "
                "see whether it is reachable and has disk and memory left."
            ) from None

    async def _publish_or_declare(self, message: aio_pika.Message, routing_key: str, exchange: str) -> None:
        try:
            await self._publish(message, routing_key, exchange)
        except PublishError:
            # Came back: the queue was deleted under us.
            await self._declare(await self._connection.ready())
            await self._publish(message, routing_key, exchange)

    async def reaches(self, routing_key: str, timeout: float = CONFIRM_TIMEOUT) -> bool:
        """Whether a queue of that name exists, told by a message that comes back or does not."""
        message = aio_pika.Message(b"", delivery_mode=aio_pika.DeliveryMode.NOT_PERSISTENT)
        deadline = asyncio.get_running_loop().time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    try:
                        await self._publish(message, routing_key, "")
                    except PublishError:
                        return False
                    except LOST:
                        await self._reopen()
                    else:
                        return True
        except TimeoutError:
            raise BrokerUnavailable(f"RabbitMQ at {self._connection.place} did not answer.") from None

    async def cast(self, message: aio_pika.Message, routing_key: str, exchange: str) -> None:
        """Publish a transient message; lost where there is no connection."""
        if not self._connection.up or self._plain is None:
            return
        with contextlib.suppress(*LOST):
            if self._plain.is_closed:
                # An exchange that is gone closes the channel; the next connection declares it.
                self._plain = await (await self._connection.ready()).channel(publisher_confirms=False)
            target = await self._plain.get_exchange(exchange, ensure=False)
            await target.publish(message, routing_key, mandatory=False)

    async def _publish(self, message: aio_pika.Message, routing_key: str, exchange: str) -> None:
        await self._connection.ready()
        channel = self._confirmed
        assert channel is not None
        target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
        await target.publish(message, routing_key, mandatory=True)

    async def _reopen(self) -> None:
        await asyncio.sleep(0.1)
        connection = await self._connection.ready()
        if self._confirmed is None or self._confirmed.is_closed:
            with contextlib.suppress(*LOST):
                self._confirmed = await connection.channel(publisher_confirms=True, on_return_raises=True)
