"""Queue and history as ComfyUI shows them, in slices of JSON: however long, never whole in memory."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

from comfy_dist.ledger import stored
from comfy_dist.ledger.fold import JobRow
from comfy_dist.ledger.search import Search

#: ComfyUI's own bound of the history.
HISTORY_LIMIT = 10_000
#: A slice ends with the item that makes it longer, in bytes as they are stored; the next waits its turn on the
#: database's thread.
SLICE_BYTES = 500_000

T = TypeVar("T")
Read: TypeAlias = Callable[[Callable[[sqlite3.Connection], T]], Awaitable[T]]


async def queue(read: Read[Any], running: Sequence[JobRow], pending: Sequence[JobRow]) -> AsyncIterator[bytes]:
    """{"queue_running": [...], "queue_pending": [...]}"""
    yield b'{"queue_running":['
    async for slice_ in _joined(read, running, stored.item_of):
        yield slice_
    yield b'],"queue_pending":['
    async for slice_ in _joined(read, pending, stored.item_of):
        yield slice_
    yield b"]}"


async def history(read: Read[Any], search: Search, max_items: int | None, offset: int) -> AsyncIterator[bytes]:
    """{id: entry}, oldest first; max_items alone: the newest so many (ComfyUI's GET /history)."""
    limit = HISTORY_LIMIT if max_items is None or max_items < 0 else min(max_items, HISTORY_LIMIT)

    def select(connection: sqlite3.Connection) -> list[JobRow]:
        condition, values = search.condition(connection)
        order, skip = ("DESC", 0) if offset < 0 else ("ASC", offset)
        found = stored.rows(
            connection,
            f"WHERE rank IS NOT NULL AND {condition} ORDER BY rank {order} LIMIT ? OFFSET ?",
            (*values, limit, skip),
        )
        return found if offset >= 0 else found[::-1]

    yield b"{"
    async for slice_ in _joined(read, await read(select), stored.entry_of):
        yield slice_
    yield b"}"


async def _joined(
    read: Read[Any], rows: Sequence[JobRow], item: Callable[[JobRow, stored.Bodies], bytes | None]
) -> AsyncIterator[bytes]:
    """The rows' items with commas between, slice by slice."""
    done, first = 0, True
    while done < len(rows):

        def slice_(connection: sqlite3.Connection, done: int = done) -> list[stored.Bodies]:
            found: list[stored.Bodies] = []
            length = 0
            while done + len(found) < len(rows) and length < SLICE_BYTES:
                found.append(bodies := stored.bodies(connection, rows[done + len(found)]))
                length += sum(map(len, filter(None, bodies)))
            return found

        def joined(some: Iterable[tuple[JobRow, stored.Bodies]]) -> list[bytes]:
            return [made for row, bodies in some if (made := item(row, bodies)) is not None]

        found = await read(slice_)
        pairs = list(zip(rows[done : done + len(found)], found, strict=True))
        # What takes the time is to unpack: not on the database's thread, and on two cores where there are two.
        halves = (pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :])
        made = await asyncio.gather(*(asyncio.to_thread(joined, half) for half in halves))
        done += len(found)
        if text := b",".join([each for half in made for each in half]):
            yield text if first else b"," + text
            first = False
