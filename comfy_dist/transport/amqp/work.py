"""Taking jobs: one at a time, the most urgent queue first, within milliseconds when idle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from pydantic import ValidationError

from comfy_dist.messages import Job
from comfy_dist.transport.amqp.connection import LOST, Connection
from comfy_dist.transport.amqp.names import Names
from comfy_dist.transport.amqp.publisher import Publisher, pack, unpack

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AmqpDelivery:
    job: Job
    message: AbstractIncomingMessage
    queue: str
    names: Names
    publisher: Publisher

    async def acknowledge(self) -> None:
        # Where the connection is gone the broker delivers it again, and the control stream tells that it is void.
        with contextlib.suppress(*LOST):
            await self.message.ack()

    async def requeue(self) -> None:
        with contextlib.suppress(*LOST):
            await self.message.nack(requeue=True)

    async def park(self) -> None:
        await self.publisher.confirm(self._copy(), self.queue, exchange=self.names.parked)
        await self.acknowledge()

    async def bury(self, reason: str) -> None:
        await self.publisher.confirm(
            self._copy(headers={"reason": reason[:1000], "queue": self.queue}), self.names.dead
        )
        await self.acknowledge()

    def _copy(self, **properties: object) -> aio_pika.Message:
        return pack(self.job.to_bytes(), message_id=self.job.id, **properties)


class Taker:
    """Takes one delivery after another over the consuming connection."""

    def __init__(self, connection: Connection, names: Names, publisher: Publisher) -> None:
        self._connection = connection
        self._names = names
        self._publisher = publisher
        self._channel: AbstractChannel | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def take(self) -> AmqpDelivery:
        """The next job. Unreadable messages go to the dead letters."""
        while True:
            try:
                channel = await self._open()
                queues = [await channel.get_queue(name, ensure=False) for name in self._names.work]
                found = await self._get(queues) or await self._wait(channel, queues)
            except LOST as error:
                log.debug("Taking again after: %s", error)
                await asyncio.sleep(0.2)
                continue
            if found and (delivery := await self._read(*found)):
                return delivery

    async def _open(self) -> AbstractChannel:
        connection = await self._connection.ready()
        if self._stopping is not None:
            await asyncio.wait([self._stopping])
            self._stopping = None
        if self._channel is None or self._channel.is_closed:
            self._channel = await connection.channel()
            await self._channel.set_qos(prefetch_count=1)
        return self._channel

    @staticmethod
    async def _get(queues: list[AbstractQueue]) -> tuple[AbstractIncomingMessage, str] | None:
        """What lies ready, by urgency. One cancelled in the middle of a get leaves its message to the channel's
        next use, so the get is shielded and its message given back."""
        for queue in queues:
            getting = asyncio.ensure_future(queue.get(fail=False))
            try:
                message = await asyncio.shield(getting)
            except asyncio.CancelledError:
                getting.add_done_callback(_give_back)
                raise
            if message is not None:
                return message, queue.name
        return None

    async def _wait(
        self, channel: AbstractChannel, queues: list[AbstractQueue]
    ) -> tuple[AbstractIncomingMessage, str] | None:
        """Consume from all queues until one message comes; more that came with it are given back."""
        arrivals: asyncio.Queue[tuple[AbstractIncomingMessage, str] | None] = asyncio.Queue()
        channel.close_callbacks.add(lambda *_: arrivals.put_nowait(None), weak=False)
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _: arrivals.put_nowait(None))

        async def consume(queue: AbstractQueue) -> str:
            async def arrived(message: AbstractIncomingMessage) -> None:
                arrivals.put_nowait((message, queue.name))

            return await queue.consume(arrived)

        starting = [asyncio.create_task(consume(queue)) for queue in queues]
        try:
            await asyncio.gather(*starting)
            found = await arrivals.get()
            if found is None:
                # The consumers may be gone with their queue; a new channel declares nothing away.
                raise ConnectionError("a work queue or its channel was closed")
            return found
        finally:
            # Not awaited: the job found starts at once. The next take waits for it.
            self._stopping = asyncio.ensure_future(self._stop(channel, queues, starting, arrivals))

    @staticmethod
    async def _stop(
        channel: AbstractChannel,
        queues: list[AbstractQueue],
        starting: list[asyncio.Task[str]],
        arrivals: asyncio.Queue[tuple[AbstractIncomingMessage, str] | None],
    ) -> None:
        with contextlib.suppress(*LOST, TimeoutError):
            async with asyncio.timeout(10):
                tags = await asyncio.gather(*starting)
                await asyncio.gather(*(queue.cancel(tag) for queue, tag in zip(queues, tags, strict=True)))
                while not arrivals.empty():
                    if (extra := arrivals.get_nowait()) is not None:
                        await extra[0].nack(requeue=True)
                return
        # Not orderly: close the channel, and the broker takes everything back.
        with contextlib.suppress(*LOST, TimeoutError):
            await channel.close()

    async def _read(self, message: AbstractIncomingMessage, queue: str) -> AmqpDelivery | None:
        try:
            job = Job.from_bytes(unpack(message))
        except (ValueError, ValidationError) as error:
            reason = " ".join(str(error).split())[:500]
            log.error("An unreadable message of %s goes to %s: %s", queue, self._names.dead, reason)
            copy = aio_pika.Message(
                message.body,
                headers={"reason": reason, "queue": queue},
                content_encoding=message.content_encoding,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            await self._publisher.confirm(copy, self._names.dead)
            await message.ack()
            return None
        return AmqpDelivery(job, message, queue, self._names, self._publisher)


def _give_back(getting: asyncio.Future[AbstractIncomingMessage | None]) -> None:
    if not getting.cancelled() and getting.exception() is None and (message := getting.result()):
        task = asyncio.ensure_future(message.nack(requeue=True))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
