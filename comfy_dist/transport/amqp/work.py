"""Taking jobs: one at a time, the most urgent queue first, within milliseconds when idle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from aio_pika.abc import AbstractChannel
from aiormq import Channel
from aiormq.abc import DeliveredMessage
from pydantic import ValidationError

from comfy_dist.errors import BrokerUnavailable
from comfy_dist.messages import Job, Route, Urgency
from comfy_dist.transport.amqp.connection import LOST, Connection, SetUp, unless_cancelled
from comfy_dist.transport.amqp.dead import letter_headers
from comfy_dist.transport.amqp.delivery import AmqpDelivery, State, acknowledge, refuse
from comfy_dist.transport.amqp.names import OFFERED, QUORUM, Names
from comfy_dist.transport.amqp.outgoing import body_of, persistent
from comfy_dist.transport.amqp.publisher import Publisher
from comfy_dist.transport.turns import COMMON, Turns
from comfy_dist.transport.unreadable import Unreadable, on_one_line

log = logging.getLogger(__name__)

#: Between two tries: what refuses a channel tells nobody when it no longer would.
RETRY_SECONDS = 0.2
#: Seconds that a taker goes on listening while its job runs: in that time most short ones have ended. What comes
#: meanwhile goes back at once, so that this costs others little.
LINGER_SECONDS = 1.0

#: Seconds in which a busy taker does not look again into a queue that it has found empty.
EMPTY_SECONDS = 0.02

#: Seconds after which a taker to whom nothing comes listens anew, on another channel: RabbitMQ 3.10 does not tell
#: the consumers of a quorum queue that it was deleted, and what is then put into a new one of that name goes to
#: them and is seen by nobody until their channel closes.
RENEW_SECONDS = 30.0

#: After these the next take begins anew.
AGAIN: tuple[type[Exception], ...] = (*LOST, BrokerUnavailable, TimeoutError)


@dataclass(slots=True)
class Source:
    """A queue that a taker looks into."""

    queue: str
    #: None for what is offered to this worker: of any route.
    route: Route | None
    #: When it was last found empty.
    empty_at: float = -math.inf


#: A message and where it came from.
Found: TypeAlias = tuple[DeliveredMessage, Source]


class Taker:
    """Takes one delivery after another over the consuming connection.

    Where something lies ready, the most urgent queue is asked for it. Where nothing does, the taker listens: it
    consumes from all queues at once. Getting, consuming and cancelling are each written to a quorum queue's log,
    so it goes on listening through a short job; a message that comes while it is not wanted is given back at once
    and ends the listening. So a busy worker holds exactly one message.
    """

    def __init__(
        self,
        connection: Connection,
        names: Names,
        publisher: Publisher,
        declare: SetUp,
        state: State,
        worker_id: Callable[[], str | None],
        unreadable: Unreadable,
    ) -> None:
        self._connection = connection
        self._names = names
        self._publisher = publisher
        self._declare = declare
        self._state = state
        self._worker = worker_id
        self._unreadable = unreadable
        self._turns = Turns()
        self._routes = COMMON
        self._channel: AbstractChannel | None = None
        #: By name of the queue; empty where the routes have changed.
        self._sources: dict[str, Source] = {}
        self._listening = False
        #: Whether it listens to no calls meanwhile.
        self._resting = False
        #: Resolved by the first message that comes; None while none is wanted.
        self._wanted: asyncio.Future[Found] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._lingering: asyncio.TimerHandle | None = None

    def serve(self, routes: Sequence[Route]) -> None:
        if (wanted := (*COMMON, *routes)) != self._routes:
            self._stop()
            self._routes, self._sources = wanted, {}

    def rest(self) -> None:
        if self._listening and not self._resting and self._wanted is None and self._channel is not None:
            self._resting = True
            tags = [source.queue for source in self._call_sources]
            self._stopping = asyncio.create_task(self._cancel(self._channel, tags, self._stopping))

    async def take(self) -> AmqpDelivery:
        """The next job. Unreadable messages go to the dead letters."""
        while True:
            try:
                found = await self._find()
                if delivery := await self._read(*found):
                    return delivery
            except AGAIN as error:
                unless_cancelled(error)
                log.debug("Taking again after: %s", error)
                if isinstance(error, TimeoutError) and self._channel is not None:
                    # What the broker answers later would be held by nobody.
                    self._lost(self._channel)
                await asyncio.sleep(RETRY_SECONDS)
                with contextlib.suppress(*LOST):
                    # A deleted work queue closes the channel.
                    await self._declare(await self._connection.ready())

    async def _find(self) -> Found:
        if self._lingering is not None:
            self._lingering.cancel()
        channel = await self._open()
        if not self._listening and (found := await self._get(channel)) is not None:
            return found
        loop = asyncio.get_running_loop()
        self._wanted = loop.create_future()
        renewing = loop.call_later(RENEW_SECONDS, self._lost, channel)
        orderly = False
        try:
            if not self._listening:
                await self._listen(channel, self._sources.values())
                unless_cancelled()
            elif self._resting:
                await self._listen(channel, self._call_sources)
                unless_cancelled()
            found = await self._wanted
            orderly = True
            return found
        finally:
            renewing.cancel()
            wanted, self._wanted = self._wanted, None
            if orderly:
                self._lingering = loop.call_later(LINGER_SECONDS, self._stop)
            else:
                if wanted.done() and not wanted.cancelled() and wanted.exception() is None:
                    self._give_back(wanted.result()[0])
                self._stop()

    async def _open(self) -> AbstractChannel:
        connection = await self._connection.ready()
        while (stopping := self._stopping) is not None:
            await asyncio.wait([stopping])
            if self._stopping is stopping:
                self._stopping = None
        if self._channel is None or self._channel.is_closed:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=1)
            channel.close_callbacks.add(lambda *_: self._lost(channel), weak=False)
            underlay = await channel.get_underlay_channel()
            underlay.on_consumer_cancel_callbacks.add(lambda _: self._lost(channel))
            self._listening = self._resting = False
            self._channel, self._sources = channel, {}
        if not self._sources:
            self._sources = await self._look_up(self._channel)
        return self._channel

    async def _look_up(self, channel: AbstractChannel) -> dict[str, Source]:
        """The queues of the routes that are served, those made that others have only told of."""
        sources = {}
        for route in self._routes:
            name = self._names.route(route)
            if not route.common:
                await channel.declare_queue(name, durable=True, arguments=QUORUM)
            sources[name] = Source(name, route)
        if (worker := self._worker()) is not None:
            # Made anew where it has expired during a long job or pause.
            await declare_offers(channel, self._names, worker)
            name = self._names.worker(worker)
            sources[name] = Source(name, None)
        return sources

    def _in_turn(self) -> list[Source]:
        """Calls, what is offered to this worker, then the other routes as their turns come."""
        routes = self._turns.order(self._routes)
        sources = [self._sources[self._names.route(route)] for route in routes]
        calls = sum(route.urgency is Urgency.CALL for route in routes)
        offered = [source for source in self._sources.values() if source.route is None]
        return [*sources[:calls], *offered, *sources[calls:]]

    def _lost(self, channel: AbstractChannel) -> None:
        """The channel was closed, or a queue deleted under its consumer: begin anew."""
        if channel is not self._channel:
            return
        self._channel = None
        self._listening = False
        self._stopping = asyncio.create_task(_close(channel, self._stopping))
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_exception(ConnectionError("the channel was closed or renewed"))

    async def _get(self, channel: AbstractChannel) -> Found | None:
        """What lies ready in the first queue that has something.

        One that was empty a moment ago is looked into only where the others have nothing.
        """
        now = time.monotonic()
        sources = self._in_turn()
        lately = [source for source in sources if now - source.empty_at < EMPTY_SECONDS]
        others = [source for source in sources if now - source.empty_at >= EMPTY_SECONDS]
        return await self._get_of(channel, others) or await self._get_of(channel, lately)

    async def _get_of(self, channel: AbstractChannel, sources: list[Source]) -> Found | None:
        underlay = await _underlay(channel)
        for source, count in zip(sources, await _count(underlay, sources), strict=True):
            if not count:
                source.empty_at = time.monotonic()
                continue
            # Cancelled in the middle, a get would leave its message to nobody.
            getting = asyncio.ensure_future(underlay.basic_get(source.queue))
            try:
                message = await asyncio.shield(getting)
            except asyncio.CancelledError:
                getting.add_done_callback(self._give_back_result)
                raise
            if message.delivery_tag is not None:
                return message, source
        return None

    @property
    def _call_sources(self) -> list[Source]:
        return [each for each in self._sources.values() if each.route and each.route.urgency is Urgency.CALL]

    async def _listen(self, channel: AbstractChannel, sources: Iterable[Source]) -> None:
        self._listening, self._resting = True, False
        underlay = await _underlay(channel)
        await asyncio.gather(*(self._consume(underlay, source) for source in sources))

    async def _consume(self, underlay: Channel, source: Source) -> None:
        async def arrived(message: DeliveredMessage) -> None:
            if self._wanted is not None and not self._wanted.done():
                self._wanted.set_result((message, source))
            else:
                self._give_back(message)
                self._stop()

        await underlay.basic_consume(source.queue, arrived, consumer_tag=source.queue)

    def _stop(self) -> None:
        """Stop listening, behind what goes on; the next take waits for it."""
        if self._listening and self._channel is not None:
            resting = self._call_sources if self._resting else []
            self._listening = self._resting = False
            tags = [source.queue for source in self._sources.values() if source not in resting]
            self._stopping = asyncio.create_task(self._cancel(self._channel, tags, self._stopping))

    @staticmethod
    async def _cancel(channel: AbstractChannel, tags: list[str], before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        try:
            async with asyncio.timeout(10):
                underlay = await _underlay(channel)
                await asyncio.gather(*(underlay.basic_cancel(tag) for tag in tags))
        except Exception as error:  # noqa: BLE001 - of a channel that is closed meanwhile aiormq raises a bare one
            log.debug("The channel is closed, and the broker takes everything back: %r", error)
            await _close(channel)

    def _give_back_result(self, getting: asyncio.Future[DeliveredMessage]) -> None:
        if getting.cancelled() or getting.exception() is not None:
            return
        if (message := getting.result()).delivery_tag is not None:
            self._give_back(message)

    @staticmethod
    def _give_back(message: DeliveredMessage) -> None:
        task = asyncio.ensure_future(refuse(message))
        # With the connection gone the broker has it back already.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _read(self, message: DeliveredMessage, source: Source) -> AmqpDelivery | None:
        # What is offered names the queue that it goes to next.
        queue = message.routing_key if source.route is None and message.routing_key else source.queue
        try:
            job = Job.from_bytes(body_of(message))
        except (ValueError, ValidationError) as error:
            reason = on_one_line(error)
            self._unreadable.note(queue, error)
            log.debug("An unreadable message of %s goes to %s.", queue, self._names.dead)
            copy = persistent(
                message.body,
                encoding=message.header.properties.content_encoding,
                headers=letter_headers(reason, queue),
            )
            await self._publisher.confirm(copy, self._names.dead)
            await acknowledge(message)
            return None
        known = self._sources.get(queue)
        route = (known.route if known else None) or Route(urgency=job.urgency)
        self._turns.took(route)
        return AmqpDelivery(job, route, message, queue, self._names, self._publisher, self._state)


async def declare_offers(channel: AbstractChannel, names: Names, worker_id: str) -> None:
    """The queue of what is offered to that worker."""
    offers = await channel.declare_queue(names.worker(worker_id), durable=True, arguments=OFFERED)
    await offers.bind(names.offers, arguments={"x-match": "all", "worker": worker_id})


async def _underlay(channel: AbstractChannel) -> Channel:
    """Below aio_pika, whose Queue and IncomingMessage cost as much again as the rest of a delivery."""
    return cast(Channel, await channel.get_underlay_channel())


async def _count(channel: Channel, sources: Sequence[Source]) -> list[int]:
    """Messages that lie ready, by queue; asking costs the broker no log entry."""
    declared = await asyncio.gather(*(channel.queue_declare(source.queue, passive=True) for source in sources))
    return [each.message_count or 0 for each in declared]


async def _close(channel: AbstractChannel, before: asyncio.Task[None] | None = None) -> None:
    if before is not None:
        await asyncio.wait([before])
    with contextlib.suppress(*LOST, TimeoutError):
        async with asyncio.timeout(10):
            await channel.close()
