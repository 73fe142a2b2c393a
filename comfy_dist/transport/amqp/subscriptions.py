"""Transient messages to one participant: progress, announcements, commands, answers.

They come through one exclusive queue of the participant's consuming connection, bound to what it asked for; it is
gone with the connection and made again with the next, before that counts as one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from aio_pika.abc import AbstractConnection, AbstractQueue
from aiormq.abc import DeliveredMessage

from comfy_dist.transport.amqp.connection import LOST, Connection, unless_cancelled
from comfy_dist.transport.amqp.names import Names

log = logging.getLogger(__name__)

#: Messages that may wait for a participant that does not read; the oldest are dropped.
MAX_WAITING = 10_000
#: Between two tries: what refuses a channel tells nobody when it no longer would.
RETRY_SECONDS = 0.2
#: Seconds in which the broker answers who leaves.
LEAVE_SECONDS = 5.0

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

    def __init__(self, connection: Connection, names: Names, participant: str) -> None:
        self._connection = connection
        self._names = names
        self._participant = participant
        self._bindings: set[tuple[str, str]] = set()
        self._queue: AbstractQueue | None = None
        #: By the exchange that somebody reads now.
        self._inboxes: dict[str, Inbox[DeliveredMessage]] = {}
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
        if not message.exchange:
            self.answers.put(message)
        elif (inbox := self._inboxes.get(message.exchange)) is not None:
            inbox.put(message)

    @asynccontextmanager
    async def subscribed(self, exchange: str, *keys: str) -> AsyncIterator[AsyncIterator[DeliveredMessage]]:
        """What comes from that exchange, with these keys and those that bind() has added; to one reader at a time.

        Entered when the broker has confirmed it, however often the connection is lost before.
        """
        inbox = self._inboxes[exchange] = Inbox()
        try:
            for key in keys:
                await self._insist(exchange, key)
            yield inbox.read()
        finally:
            del self._inboxes[exchange]
            for key in keys:
                await self.unbind(exchange, key)

    async def _insist(self, exchange: str, key: str) -> None:
        while True:
            await self._connection.ready()
            bound = await self.bind(exchange, key)
            unless_cancelled()
            if bound:
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def bind(self, exchange: str, key: str) -> bool:
        """Whether the broker has it now. Where the connection is just being lost, the next one binds it."""
        self._bindings.add((exchange, key))
        if self._queue is not None:
            try:
                await self._queue.bind(exchange, key)
            except LOST as error:
                log.debug("Binding to %s was cut off: %s", exchange, error)
            else:
                return True
        return False

    async def unbind(self, exchange: str, key: str) -> None:
        self._bindings.discard((exchange, key))
        if self._queue is not None:
            with contextlib.suppress(*LOST, TimeoutError):
                await self._queue.unbind(exchange, key, timeout=LEAVE_SECONDS)

    def close(self) -> None:
        for inbox in (*self._inboxes.values(), self.answers):
            inbox.close()
