"""The transport over RabbitMQ (docs/protocol.md)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import aio_pika
from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage

from comfy_dist.messages import (
    Announcement,
    CallEnded,
    Command,
    Event,
    Fact,
    Job,
    Progress,
    Reply,
    Route,
    RouteFact,
    parse_event,
    parse_fact,
)
from comfy_dist.transport.amqp import batches
from comfy_dist.transport.amqp.connection import Connection, Reports
from comfy_dist.transport.amqp.dead import DeadLetters
from comfy_dist.transport.amqp.lives import Lives
from comfy_dist.transport.amqp.names import EVERYONE, QUORUM, STREAM_BYTES, Names, client_key
from comfy_dist.transport.amqp.outgoing import Outgoing, pack, transient
from comfy_dist.transport.amqp.publisher import Publisher
from comfy_dist.transport.amqp.results import receive
from comfy_dist.transport.amqp.retention import Streams
from comfy_dist.transport.amqp.stream import follow
from comfy_dist.transport.amqp.subscriptions import Subscriptions
from comfy_dist.transport.amqp.work import Taker
from comfy_dist.transport.dead import HeldLetters
from comfy_dist.transport.protocol import Bookmark, ReceivedCommand, Recorded, Rewind
from comfy_dist.transport.unreadable import Unreadable

log = logging.getLogger(__name__)

T = TypeVar("T")

COMMAND_SECONDS = 30
#: Seconds after which a route that is in use is stated again: facts are kept for a while only, and workers forget
#: routes of which nobody tells (`worker/routes.py`).
STATE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class AmqpCommand:
    command: Command
    reply_to: str | None
    publisher: Publisher

    async def reply(self, reply: Reply) -> None:
        if self.reply_to:
            await self.publisher.cast(_transient(reply.to_bytes()), self.reply_to, "")


class AmqpTransport:
    """One participant (a frontend or a worker) on the broker.

    Publishing and consuming use separate connections: under a broker alarm a publishing connection is blocked,
    its acknowledgements included.
    """

    durable = True
    burst_seconds = 0.0015

    def __init__(
        self, uri: str, queue_name: str, *, retention: float = 604800.0, retention_size: int = STREAM_BYTES
    ) -> None:
        """What the streams keep: so many seconds, and so many bytes each."""
        self._names = Names(queue_name)
        self._retention = (retention, retention_size)
        self._streams = Streams()
        self.unreadable = Unreadable()
        self._participant = uuid.uuid4().hex[:12]
        reports = Reports()
        self._publishing = Connection(uri, f"{queue_name} publishing", self._set_up_publishing, reports)
        self._consuming = Connection(uri, f"{queue_name} consuming", self._set_up_consuming, reports)
        self._publisher = Publisher(self._publishing, self._declare)
        self._lives = Lives(self._consuming, self._names, self._publisher)
        self._dead_letters = DeadLetters(self._consuming, self._names, self._publisher)
        self._subscriptions = Subscriptions(self._consuming, self._names, self._participant)
        #: Routes of which this participant has told the others, and when.
        self._stated: dict[Route, float] = {}
        self._asked: dict[str, asyncio.Future[Reply]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = asyncio.Event()

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        opened = [loop.create_future(), loop.create_future()]
        connections = (self._publishing, self._consuming)
        self._tasks = [
            asyncio.create_task(connection.run(future))
            for connection, future in zip(connections, opened, strict=True)
        ]
        try:
            for future in opened:
                await future
        except BaseException:
            for future in opened:
                future.cancel()
            await self.close()
            raise
        self._tasks.append(asyncio.create_task(self._sort_answers()))

    async def close(self) -> None:
        self._closed.set()
        self._subscriptions.close()
        for connection in (self._publishing, self._consuming):
            connection.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    @property
    def connected(self) -> bool:
        return self._publishing.up and self._consuming.up

    async def _set_up_publishing(self, connection: AbstractConnection) -> None:
        await self._declare(connection)
        await self._publisher.set_up(connection)

    async def _set_up_consuming(self, connection: AbstractConnection) -> None:
        await self._declare(connection)
        await self._lives.set_up(connection)
        await self._subscriptions.set_up(connection)

    async def _declare(self, connection: AbstractConnection) -> None:
        for name, arguments in self._names.streams(*self._retention).items():
            await self._streams.declare(connection, name, arguments)
        async with connection.channel() as channel:
            for name, arguments in self._names.queues.items():
                await channel.declare_queue(name, durable=True, arguments=arguments)
            for name, kind in self._names.exchanges.items():
                await channel.declare_exchange(name, aio_pika.ExchangeType(kind), durable=True)
            parked = await channel.get_queue(self._names.parked, ensure=False)
            await parked.bind(self._names.parked)
            for route in self._stated:
                await channel.declare_queue(self._names.route(route), durable=True, arguments=QUORUM)

    # Jobs

    async def submit(self, job: Job, route: Route | None = None) -> None:
        route = route or Route(urgency=job.urgency)
        await self._state(route)
        await self._publisher.confirm(pack(job.to_bytes(), message_id=job.id), self._names.route(route))

    async def offer(self, job: Job, route: Route, worker_id: str) -> None:
        await self._state(route)
        message = pack(job.to_bytes(), message_id=job.id, headers={"worker": worker_id})
        if not await self._publisher.attempt(message, self._names.route(route), self._names.offers):
            await self.submit(job, route)

    async def _state(self, route: Route) -> None:
        """Make the route's queue, and tell the workers of it, once in a while."""
        now = time.monotonic()
        again = min(STATE_SECONDS, self._retention[0] / 8)
        if route.common or now - self._stated.get(route, -math.inf) < again:
            return
        self._stated[route] = now
        try:
            await self._publisher.declare(self._names.route(route), QUORUM)
            await self.append_fact(RouteFact(route=route))
        except BaseException:
            self._stated.pop(route, None)
            raise

    async def waiting(self, route: Route) -> int:
        return await self._publisher.count(self._names.route(route))

    def taker(self) -> Taker:
        return Taker(
            self._consuming,
            self._names,
            self._publisher,
            self._declare,
            self._state,
            lambda: self._lives.worker,
            self.unreadable,
        )

    def dead_letters(self) -> AbstractAsyncContextManager[HeldLetters]:
        return self._dead_letters.hold()

    # Streams

    async def append_event(self, event: Event) -> None:
        await self._publisher.confirm(pack(event.to_bytes()), self._names.events)

    async def events(self, after: Bookmark | None) -> AsyncIterator[Recorded | Rewind]:
        stream = follow(self._consuming, self._names.events, after=after, declare=self._declare)
        async with contextlib.aclosing(stream):
            async for entry in stream:
                if isinstance(entry, Rewind):
                    yield entry
                    continue
                event = parse_event(entry.body) if entry.body is not None else None
                if event is None:
                    self.unreadable.note(self._names.events, "no event that this version knows")
                yield Recorded(event, entry.bookmark)

    async def append_fact(self, fact: Fact) -> None:
        await self._publisher.confirm(pack(fact.to_bytes()), self._names.control)

    async def facts(self) -> AsyncIterator[Fact]:
        stream = follow(self._consuming, self._names.control, after=None, declare=self._declare)
        async with contextlib.aclosing(stream):
            async for entry in stream:
                if isinstance(entry, Rewind):
                    continue
                fact = parse_fact(entry.body) if entry.body is not None else None
                if fact is None:
                    self.unreadable.note(self._names.control, "no fact that this version knows")
                else:
                    yield fact

    # Workers' lives

    async def enlist(self, worker_id: str) -> None:
        await self._lives.enlist(worker_id)

    async def is_alive(self, worker_id: str) -> bool:
        return await self._lives.is_alive(worker_id)

    async def enlisted(self) -> int:
        return await self._lives.count()

    # Calls

    async def send_result(self, ended: CallEnded, worker_id: str) -> None:
        message = pack(ended.to_bytes(), message_id=ended.call)
        if not await self._publisher.attempt(message, self._names.results(worker_id)):
            log.debug("Worker %s, which waited for the call %s, is gone.", worker_id, ended.call)

    async def results(self) -> AsyncIterator[CallEnded]:
        assert self._lives.worker is not None
        queue = self._names.results(self._lives.worker)
        results = receive(self._consuming, queue, self._lives.declare)
        async with contextlib.aclosing(results):
            async for ended in results:
                if ended is None:
                    self.unreadable.note(queue, "no end of a call that this version knows")
                else:
                    yield ended

    # Progress

    async def emit(self, batch: Sequence[Progress]) -> None:
        message = transient(batches.pack(batch), content_type=batches.CONTENT_TYPE)
        await self._publisher.cast(message, client_key(batch[0].client_id), self._names.progress)

    async def follow(self, client_id: str) -> None:
        await self._subscriptions.bind(self._names.progress, client_key(client_id))

    async def unfollow(self, client_id: str) -> None:
        await self._subscriptions.unbind(self._names.progress, client_key(client_id))

    @asynccontextmanager
    async def progress(self, *, everyones: bool = True) -> AsyncIterator[AsyncIterator[Progress]]:
        exchange, keys = self._names.progress, (EVERYONE,) if everyones else ()
        async with self._subscriptions.subscribed(exchange, *keys) as messages:
            read = self._read(messages, batches.unpack, exchange)
            yield (progress async for batch, _ in read for progress in batch)

    # Presence

    async def announce(self, announcement: Announcement) -> None:
        await self._publisher.cast(_transient(announcement.to_bytes()), "", self._names.presence)

    @asynccontextmanager
    async def announcements(self) -> AsyncIterator[AsyncIterator[Announcement]]:
        exchange = self._names.presence
        async with self._subscriptions.subscribed(exchange, "") as messages:
            read = self._read(messages, Announcement.from_bytes, exchange)
            yield (announcement async for announcement, _ in read)

    # Commands

    async def send(self, command: Command) -> None:
        await self._command(command, None)

    async def ask(self, command: Command, timeout: float) -> Reply | None:
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._asked[command.id] = answer
        try:
            async with asyncio.timeout(timeout):
                await self._command(command, self._subscriptions.address)
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._asked[command.id]

    async def _command(self, command: Command, reply_to: str | None) -> None:
        message = transient(command.to_bytes(), reply_to=reply_to, expiration=COMMAND_SECONDS)
        await self._publisher.cast(message, "", self._names.commands)

    @asynccontextmanager
    async def commands(self) -> AsyncIterator[AsyncIterator[ReceivedCommand]]:
        exchange = self._names.commands
        async with self._subscriptions.subscribed(exchange, "") as messages:
            read = self._read(messages, Command.from_bytes, exchange)
            yield (
                AmqpCommand(command, message.header.properties.reply_to, self._publisher)
                async for command, message in read
                if command.worker in (None, self._lives.worker)
            )

    async def _sort_answers(self) -> None:
        answers = self._subscriptions.answers.read()
        async for reply, _ in self._read(answers, Reply.from_bytes, self._subscriptions.address):
            if (asked := self._asked.get(reply.command)) is not None and not asked.done():
                asked.set_result(reply)

    async def _read(
        self, messages: AsyncIterator[DeliveredMessage], parse: Callable[[bytes], T], place: str
    ) -> AsyncIterator[tuple[T, DeliveredMessage]]:
        """What each says; those that cannot be read are passed over and counted."""
        async for message in messages:
            try:
                parsed = parse(message.body)
            except ValueError as error:
                self.unreadable.note(place, error)
            else:
                yield parsed, message


def _transient(body: bytes) -> Outgoing:
    return transient(body, expiration=COMMAND_SECONDS)
