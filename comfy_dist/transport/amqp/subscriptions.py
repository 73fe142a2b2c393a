"""Transient messages to one participant: progress, announcements, commands, answers.

They come through one exclusive queue of the participant's consuming connection, bound to what it asked for; it is
gone with the connection and made again with the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from aio_pika.abc import AbstractConnection, AbstractQueue
from aiormq.abc import DeliveredMessage

from comfy_dist.transport.amqp.connection import LOST
from comfy_dist.transport.amqp.names import Names

log = logging.getLogger(__name__)

#: Messages that may wait for a participant that does not read; the oldest are dropped.
MAX_WAITING = 10_000

T = TypeVar("T")


class Inbox(Generic[T]):
    """Hands one kind of message to one reader at a time."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[T | None] = asyncio.Queue(MAX_WAITING)

    def put(self, item: T) -> None:
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(item)

    def close(self) -> None:
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def read(self) -> AsyncIterator[T]:
        while (item := await self._queue.get()) is not None:
            yield item


class Subscriptions:
    """The participant's queue, its bindings, and where its messages go by exchange."""

    def __init__(self, names: Names, participant: str) -> None:
        self._names = names
        self._participant = participant
        self._bindings: set[tuple[str, str]] = set()
        self._queue: AbstractQueue | None = None
        self.inboxes: dict[str, Inbox[DeliveredMessage]] = {
            names.progress: Inbox(),
            names.presence: Inbox(),
            names.commands: Inbox(),
        }
        #: Messages sent to the queue itself: answers to this participant's commands.
        self.answers: Inbox[DeliveredMessage] = Inbox()

    @property
    def address(self) -> str:
        """Where answers reach this participant."""
        return self._names.answers(self._participant)

    async def set_up(self, connection: AbstractConnection) -> None:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=200)
        self._queue = await channel.declare_queue(
            self.address, exclusive=True, auto_delete=True, arguments={"x-max-length": MAX_WAITING}
        )
        for exchange, key in list(self._bindings):
            await self._queue.bind(exchange, key)
        underlay = await channel.get_underlay_channel()
        await underlay.basic_consume(self.address, self._arrived, no_ack=True)

    async def _arrived(self, message: DeliveredMessage) -> None:
        self.inboxes.get(message.exchange or "", self.answers).put(message)

    async def bind(self, exchange: str, key: str = "") -> None:
        if (exchange, key) in self._bindings:
            return
        self._bindings.add((exchange, key))
        if self._queue is not None:
            # Where the connection is just being lost, the next one binds it.
            with contextlib.suppress(*LOST):
                await self._queue.bind(exchange, key)

    async def unbind(self, exchange: str, key: str = "") -> None:
        self._bindings.discard((exchange, key))
        if self._queue is not None:
            with contextlib.suppress(*LOST):
                await self._queue.unbind(exchange, key)

    def close(self) -> None:
        for inbox in (*self.inboxes.values(), self.answers):
            inbox.close()
