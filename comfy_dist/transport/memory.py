"""The transport within one process: the same promises as on the broker, kept by asyncio."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

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
    now_ms,
)
from comfy_dist.transport.dead import MOST_LETTERS, DeadLetter, HeldLetters
from comfy_dist.transport.in_process import Log, Subscribers, read_until
from comfy_dist.transport.protocol import Bookmark, Delivery, ReceivedCommand, Recorded, Rewind
from comfy_dist.transport.turns import COMMON, Turns
from comfy_dist.transport.unreadable import Unreadable

#: Seconds a parked delivery waits, as on the broker.
PARK_SECONDS = 5.0


class MemoryBroker:
    """What the participants of one process share; the counterpart of RabbitMQ."""

    def __init__(self, park_seconds: float = PARK_SECONDS) -> None:
        self.park_seconds = park_seconds
        self.events: Log[Event] = Log()
        self.facts: Log[Fact] = Log()
        self.progress: Subscribers[Progress] = Subscribers()
        self.announcements: Subscribers[Announcement] = Subscribers()
        self.commands: Subscribers[MemoryCommand] = Subscribers()
        self.workers: set[str] = set()
        #: {worker id: how calls of its jobs ended}.
        self.results: dict[str, asyncio.Queue[CallEnded | None]] = {}
        self.dead: list[DeadLetter] = []
        #: Held by who looks at the dead letters.
        self.dead_held = asyncio.Lock()
        self._stated: set[Route] = set(COMMON)
        self._waiting: dict[Route, list[tuple[int, Job]]] = {}
        self._arrived = asyncio.Condition()
        self._order = itertools.count()

    async def state(self, route: Route) -> None:
        """A `route` fact, once."""
        if route not in self._stated:
            self._stated.add(route)
            await self.facts.append(RouteFact(route=route))

    async def put(self, job: Job, route: Route, order: int | None = None) -> None:
        """Queue the job; with its old order it comes back to the place it had."""
        place = next(self._order) if order is None else order
        heapq.heappush(self._waiting.setdefault(route, []), (place, job))
        async with self._arrived:
            # Not every taker serves this route.
            self._arrived.notify_all()

    def count(self, route: Route) -> int:
        return len(self._waiting.get(route, ()))

    async def get(self, routes: Callable[[], Sequence[Route]]) -> tuple[Route, int, Job]:
        """The next job of the first of the routes that has one."""
        async with self._arrived:
            while (found := next((route for route in routes() if self._waiting.get(route)), None)) is None:
                await self._arrived.wait()
            order, job = heapq.heappop(self._waiting[found])
            if not self._waiting[found]:
                del self._waiting[found]
            return found, order, job


@dataclass(slots=True)
class MemoryDelivery:
    job: Job
    route: Route
    broker: MemoryBroker
    order: int
    #: Nobody is cut off within a process.
    before: int = 0

    async def acknowledge(self) -> None:
        pass

    async def requeue(self) -> None:
        await self.broker.put(self.job, self.route, self.order)

    async def park(self) -> None:
        asyncio.get_running_loop().call_later(self.broker.park_seconds, self._unpark)

    def _unpark(self) -> None:
        task = asyncio.ensure_future(self.broker.put(self.job, self.route))
        task.add_done_callback(lambda done: done.result())

    async def pass_on(self, route: Route) -> None:
        await self.broker.state(route)
        await self.broker.put(self.job, route)

    async def bury(self, reason: str) -> None:
        body, queue = self.job.to_bytes(), self.route.urgency.value
        self.broker.dead.append(DeadLetter(id=self.job.id, reason=reason, queue=queue, at=now_ms(), body=body))


@dataclass(frozen=True, slots=True)
class MemoryLetter:
    letter: DeadLetter
    broker: MemoryBroker

    async def drop(self) -> None:
        self.broker.dead.remove(self.letter)

    async def put_back(self) -> bool:
        # Nothing is unreadable here.
        return False


class MemoryTaker:
    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._turns = Turns()
        self._routes: tuple[Route, ...] = COMMON

    def serve(self, routes: Sequence[Route]) -> None:
        self._routes = (*COMMON, *routes)

    def rest(self) -> None:
        pass

    async def take(self) -> Delivery:
        route, order, job = await self._broker.get(lambda: self._turns.order(self._routes))
        self._turns.took(route)
        return MemoryDelivery(job, route, self._broker, order)


@dataclass(slots=True)
class MemoryCommand:
    command: Command
    answer: asyncio.Future[Reply] | None

    async def reply(self, reply: Reply) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(reply)


class MemoryTransport:
    """One participant of a MemoryBroker."""

    durable = False
    burst_seconds = 0.0

    def __init__(self, broker: MemoryBroker) -> None:
        #: Nothing is, within one process.
        self.unreadable = Unreadable()
        self._broker = broker
        self._closed = asyncio.Event()
        self._worker: str | None = None
        self._followed: set[str] = set()

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        self._closed.set()
        if self._worker:
            self._broker.workers.discard(self._worker)
        await self._broker.events.wake()
        await self._broker.facts.wake()
        if self._worker and (results := self._broker.results.get(self._worker)) is not None:
            results.put_nowait(None)
        for subscribers in (self._broker.progress, self._broker.announcements, self._broker.commands):
            subscribers.wake()

    @property
    def connected(self) -> bool:
        return not self._closed.is_set()

    async def submit(self, job: Job, route: Route | None = None) -> None:
        route = route or Route(urgency=job.urgency)
        await self._broker.state(route)
        await self._broker.put(job, route)

    async def offer(self, job: Job, route: Route, worker_id: str) -> None:
        # There is one worker in a process.
        await self.submit(job, route)

    async def waiting(self, route: Route) -> int:
        return self._broker.count(route)

    def taker(self) -> MemoryTaker:
        return MemoryTaker(self._broker)

    @asynccontextmanager
    async def dead_letters(self) -> AsyncIterator[HeldLetters]:
        async with self._broker.dead_held:
            dead = list(self._broker.dead)
            held = [MemoryLetter(each, self._broker) for each in dead[:MOST_LETTERS]]
            yield HeldLetters(held, more=len(dead) > len(held))

    async def append_event(self, event: Event) -> None:
        await self._broker.events.append(event)

    async def events(self, after: Bookmark | None) -> AsyncIterator[Recorded | Rewind]:
        log = self._broker.events
        start = 0
        # The log begins anew with every process; what an earlier one folded is kept, not rewound.
        if after is not None and after.message_id.startswith(log.id):
            start = after.offset + 1
        async for offset, event in log.read(start, self._closed):
            yield Recorded(event, Bookmark(offset=offset, message_id=f"{log.id}-{offset}"))

    async def append_fact(self, fact: Fact) -> None:
        await self._broker.facts.append(fact)

    async def facts(self) -> AsyncIterator[Fact]:
        async for _, fact in self._broker.facts.read(0, self._closed):
            yield fact

    async def enlist(self, worker_id: str) -> None:
        self._worker = worker_id
        self._broker.workers.add(worker_id)
        self._broker.results.setdefault(worker_id, asyncio.Queue())

    async def is_alive(self, worker_id: str) -> bool:
        return worker_id in self._broker.workers

    async def enlisted(self) -> int:
        return len(self._broker.workers)

    async def send_result(self, ended: CallEnded, worker_id: str) -> None:
        if worker_id in self._broker.workers:
            self._broker.results[worker_id].put_nowait(ended)

    async def results(self) -> AsyncIterator[CallEnded]:
        assert self._worker is not None
        async for ended in read_until(self._broker.results[self._worker], self._closed):
            yield ended

    async def emit(self, batch: Sequence[Progress]) -> None:
        for progress in batch:
            self._broker.progress.publish(progress)

    async def follow(self, client_id: str) -> None:
        self._followed.add(client_id)

    async def unfollow(self, client_id: str) -> None:
        self._followed.discard(client_id)

    @asynccontextmanager
    async def progress(self, *, everyones: bool = True) -> AsyncIterator[AsyncIterator[Progress]]:
        with self._broker.progress.subscribed(self._closed) as all_progress:
            yield (
                progress
                async for progress in all_progress
                if (everyones if progress.client_id is None else progress.client_id in self._followed)
            )

    async def announce(self, announcement: Announcement) -> None:
        self._broker.announcements.publish(announcement)

    @asynccontextmanager
    async def announcements(self) -> AsyncIterator[AsyncIterator[Announcement]]:
        with self._broker.announcements.subscribed(self._closed) as announcements:
            yield announcements

    async def send(self, command: Command) -> None:
        self._broker.commands.publish(MemoryCommand(command, None))

    async def ask(self, command: Command, timeout: float) -> Reply | None:
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._broker.commands.publish(MemoryCommand(command, answer))
        try:
            return await asyncio.wait_for(answer, timeout)
        except TimeoutError:
            return None

    @asynccontextmanager
    async def commands(self) -> AsyncIterator[AsyncIterator[ReceivedCommand]]:
        with self._broker.commands.subscribed(self._closed) as commands:
            yield (received async for received in commands if received.command.worker in (None, self._worker))
