"""Looking at the dead letters on RabbitMQ, and settling them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aiormq.exceptions import ChannelLockedResource

from comfy_dist.errors import BrokerUnavailable
from comfy_dist.messages import now_ms
from comfy_dist.transport.amqp.connection import LOST, Connection
from comfy_dist.transport.amqp.looking import look
from comfy_dist.transport.amqp.names import Names
from comfy_dist.transport.amqp.outgoing import persistent, unpack
from comfy_dist.transport.amqp.publisher import Publisher
from comfy_dist.transport.dead import MOST_BYTES, MOST_LETTERS, DeadLetter, HeldLetters

#: Seconds in which the broker, and others who look at the dead letters, must make way.
PATIENCE = 25.0
#: Between two looks at how much has been taken back.
READY_SECONDS = 0.02
LOST_OR_LATE: tuple[type[Exception], ...] = (*LOST, TimeoutError)
#: Letters that the broker sends without being asked for more.
BATCH = 100
#: Between two tries to be the only one who looks.
RETRY_SECONDS = 0.1


@dataclass(slots=True)
class AmqpLetter:
    letter: DeadLetter
    message: AbstractIncomingMessage
    names: Names
    publisher: Publisher
    settled: bool = False

    async def drop(self) -> None:
        async with _broker():
            await self.message.ack()
        self.settled = True

    async def put_back(self) -> bool:
        # A header is no authority: nothing but a queue of jobs takes it.
        if not self.letter.queue.startswith(
            tuple(f"{self.names.prefix}.{kind}" for kind in ("jobs", "calls", "route."))
        ):
            return False
        copy = persistent(
            self.message.body, encoding=self.message.content_encoding, message_id=self.message.message_id
        )
        if not await self.publisher.attempt(copy, self.letter.queue):
            return False
        await self.drop()
        return True


class DeadLetters:
    """Consumes the letters and lets the broker take back what is not settled, by closing the channel.

    A queue cannot be looked into otherwise, and what is given back message by message comes back in any order. So
    that nobody sees a part of it, or settles what another settles, whoever looks holds an exclusive queue, which
    ends with their connection.
    """

    def __init__(self, connection: Connection, names: Names, publisher: Publisher) -> None:
        self._connection = connection
        self._names = names
        self._publisher = publisher
        self._alone = asyncio.Lock()

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[HeldLetters]:
        """Raises BrokerUnavailable."""
        async with self._alone, AsyncExitStack() as stack:
            letters: list[AmqpLetter] = []
            async with _broker():
                live = await self._connection.ready()
                await self._lock(live)
                stack.push_async_callback(self._unlock, live)
                channel = await live.channel()
                queue = await channel.get_queue(self._names.dead, ensure=False)
                ready, _ = await look(channel, self._names.dead)
                stack.push_async_callback(self._give_back, live, channel, ready, letters)
                await self._take(channel, queue, ready, letters)
            yield HeldLetters(letters, more=ready > len(letters))

    @property
    def _lock_name(self) -> str:
        return f"{self._names.dead}.reader"

    async def _lock(self, live: AbstractConnection) -> None:
        while True:
            try:
                async with live.channel() as channel:
                    await channel.declare_queue(self._lock_name, exclusive=True)
            except ChannelLockedResource:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _unlock(self, live: AbstractConnection) -> None:
        with contextlib.suppress(*LOST_OR_LATE):
            async with asyncio.timeout(PATIENCE), live.channel() as channel:
                await channel.queue_delete(self._lock_name)

    async def _take(
        self, channel: AbstractChannel, queue: AbstractQueue, ready: int, letters: list[AmqpLetter]
    ) -> None:
        """Fill the list, by one consumer after another: the broker sends each no more than is wanted of it, and
        takes back what they have in the order of their names."""
        arrivals: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        size = 0
        while (wanted := min(ready, MOST_LETTERS) - len(letters)) > 0 and size < MOST_BYTES:
            await channel.set_qos(prefetch_count=min(wanted, BATCH))
            tag = await queue.consume(arrivals.put, consumer_tag=f"{len(letters):06d}")
            for _ in range(min(wanted, BATCH)):
                message = await arrivals.get()
                letters.append(AmqpLetter(_letter(message), message, self._names, self._publisher))
                size += len(message.body)
            await queue.cancel(tag)

    async def _give_back(
        self, live: AbstractConnection, channel: AbstractChannel, ready: int, letters: Sequence[AmqpLetter]
    ) -> None:
        """And wait until the queue has it: who took some before that would change the order."""
        with contextlib.suppress(*LOST_OR_LATE):
            async with asyncio.timeout(PATIENCE):
                await channel.close()
                expected = ready - sum(each.settled for each in letters)
                async with live.channel() as other:
                    while True:
                        back, _ = await look(other, self._names.dead)
                        if back >= expected:
                            return
                        await asyncio.sleep(READY_SECONDS)


@asynccontextmanager
async def _broker() -> AsyncIterator[None]:
    """What goes wrong with the broker, as a sentence."""
    try:
        async with asyncio.timeout(PATIENCE):
            yield
    except LOST_OR_LATE as error:
        why = str(error) or "RabbitMQ does not answer, or somebody else is at them"
        raise BrokerUnavailable(
            f"The dead letters cannot be had now ({why}); what is not settled lies where it was. Try again."
        ) from error


def letter_headers(reason: str, queue: str) -> dict[str, str]:
    """What a dead letter says of itself."""
    return {"reason": reason[:1000], "queue": queue, "at": str(now_ms())}


def _letter(message: AbstractIncomingMessage) -> DeadLetter:
    try:
        body = unpack(message.body, message.content_encoding)
    except ValueError:
        body = message.body
    at = str(message.headers.get("at", ""))
    return DeadLetter(
        id=message.message_id or hashlib.sha256(message.body).hexdigest()[:32],
        reason=str(message.headers.get("reason", "")),
        queue=str(message.headers.get("queue", "")),
        at=int(at) if at.isdecimal() and len(at) < 16 else 0,
        body=body,
    )
