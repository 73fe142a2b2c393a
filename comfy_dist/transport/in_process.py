"""What memory.py is made of: logs that are read from any place, and subscriptions."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

#: Entries a log keeps behind its slowest reader.
KEPT = 1000

T = TypeVar("T")


class Log(Generic[T]):
    """An append-only log with any number of readers; keeps what one of them still needs, and a little more."""

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex
        self._entries: deque[T] = deque()
        self._first = 0
        self._readers: dict[object, int] = {}
        self._grown = asyncio.Condition()

    @property
    def end(self) -> int:
        return self._first + len(self._entries)

    async def append(self, entry: T) -> None:
        self._entries.append(entry)
        needed = min([self.end - KEPT, *self._readers.values()])
        while self._first < needed:
            self._entries.popleft()
            self._first += 1
        async with self._grown:
            self._grown.notify_all()

    async def read(self, offset: int, closed: asyncio.Event) -> AsyncIterator[tuple[int, T]]:
        reader = object()
        self._readers[reader] = offset = max(offset, self._first)
        try:
            while not closed.is_set():
                while offset < self.end:
                    entry = self._entries[offset - self._first]
                    yield offset, entry
                    offset += 1
                    self._readers[reader] = offset
                async with self._grown:
                    while offset == self.end and not closed.is_set():
                        await self._grown.wait()
        finally:
            del self._readers[reader]

    async def wake(self) -> None:
        async with self._grown:
            self._grown.notify_all()


class Subscribers(Generic[T]):
    """Queues that each receive what is published from their subscription on."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[T | None]] = set()

    def publish(self, item: T) -> None:
        for queue in self._queues:
            queue.put_nowait(item)

    @contextmanager
    def subscribed(self, closed: asyncio.Event) -> Iterator[AsyncIterator[T]]:
        queue: asyncio.Queue[T | None] = asyncio.Queue()
        self._queues.add(queue)
        try:
            yield read_until(queue, closed)
        finally:
            self._queues.discard(queue)

    def wake(self) -> None:
        for queue in self._queues:
            queue.put_nowait(None)


async def read_until(queue: asyncio.Queue[T | None], closed: asyncio.Event) -> AsyncIterator[T]:
    """What comes; None wakes a reader that is to see that it was closed."""
    while not closed.is_set():
        if (item := await queue.get()) is not None:
            yield item
