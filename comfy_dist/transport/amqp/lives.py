"""Workers' lives: which are connected, and how many."""

from __future__ import annotations

import contextlib

from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.abc import DeliveredMessage

from comfy_dist.transport.amqp.connection import LOST, Connection
from comfy_dist.transport.amqp.names import RESULTS, Names
from comfy_dist.transport.amqp.publisher import Publisher
from comfy_dist.transport.amqp.work import declare_offers


class Lives:
    """What the broker knows of workers by their connections: the queue of each, and one that all consume from."""

    def __init__(self, connection: Connection, names: Names, publisher: Publisher) -> None:
        self._connection = connection
        self._names = names
        self._publisher = publisher
        #: Who this participant is, if it is one.
        self.worker: str | None = None
        #: The connection that this one is counted by, and its channel.
        self._counted: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None

    async def enlist(self, worker_id: str) -> None:
        self.worker = worker_id
        # Where the connection is just being lost, the next one does it.
        with contextlib.suppress(*LOST):
            await self.set_up(await self._connection.ready())

    async def set_up(self, connection: AbstractConnection) -> None:
        """On a new connection."""
        if self.worker is None:
            return
        await self.declare(connection)
        if self._counted is not connection:
            self._counted = connection
            self._channel = await connection.channel()
            underlay = await self._channel.get_underlay_channel()
            await underlay.basic_consume(self._names.workers, _ignore, no_ack=True)

    async def declare(self, connection: AbstractConnection) -> None:
        """This worker's queues."""
        assert self.worker is not None
        async with connection.channel() as channel:
            await declare_offers(channel, self._names, self.worker)
            await channel.declare_queue(self._names.results(self.worker), durable=True, arguments=RESULTS)
            # The channel closes, the queue lives as long as the connection.
            await channel.declare_queue(
                self._names.alive(self.worker), exclusive=True, arguments={"x-max-length": 1}
            )

    async def is_alive(self, worker_id: str) -> bool:
        return await self._publisher.reaches(self._names.alive(worker_id))

    async def count(self) -> int:
        return await self._publisher.consumers(self._names.workers)


async def _ignore(_: DeliveredMessage) -> None:
    """Nothing is put into the queue of all workers."""
