"""Queue and history as ComfyUI shows them, in slices of JSON: however long, never whole in memory."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

from comfy_dist.ledger import stored
from comfy_dist.ledger.fold import JobRow
from comfy_dist.ledger.recent import Recent
from comfy_dist.ledger.search import Search

#: ComfyUI's own bound of the history.
HISTORY_LIMIT = 10_000
#: A slice ends with the item that makes it longer, in bytes as they are stored; the next waits its turn on the
#: database's thread.
SLICE_BYTES = 500_000
#: And after so many items.
ROWS = 2000

T = TypeVar("T")
Read: TypeAlias = Callable[[Callable[[sqlite3.Connection], T]], Awaitable[T]]
Make: TypeAlias = Callable[[JobRow, stored.Bodies], bytes | None]


async def queue(read: Read[Any], running: Sequence[JobRow], pending: Sequence[JobRow]) -> AsyncIterator[bytes]:
    """{"queue_running": [...], "queue_pending": [...]}"""
    nothing = Recent(0)
    yield b'{"queue_running":['
    async for slice_ in _joined(_made(read, running, stored.item_of, nothing)):
        yield slice_
    yield b'],"queue_pending":['
    async for slice_ in _joined(_made(read, pending, stored.item_of, nothing)):
        yield slice_
    yield b"]}"


async def history(
    read: Read[Any], recent: Recent, search: Search, max_items: int | None, offset: int
) -> AsyncIterator[bytes]:
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
    async for slice_ in _joined(_made(read, await read(select), stored.entry_of, recent)):
        yield slice_
    yield b"}"


async def _joined(slices: AsyncIterator[list[bytes]]) -> AsyncIterator[bytes]:
    """With commas between."""
    first = True
    async for items in slices:
        if items:
            yield b",".join(items) if first else b"," + b",".join(items)
            first = False


async def _made(read: Read[Any], rows: Sequence[JobRow], make: Make, recent: Recent) -> AsyncIterator[list[bytes]]:
    """What `make` makes of the rows, slice by slice."""
    done = 0
    while done < len(rows):
        ready = list(itertools.takewhile(bool, (recent.get(row.id) for row in rows[done : done + ROWS])))
        if ready:
            yield [item for item in ready if item]
            done += len(ready)
            continue

        def slice_(connection: sqlite3.Connection, done: int = done) -> list[tuple[JobRow, stored.Bodies]]:
            found: list[tuple[JobRow, stored.Bodies]] = []
            length = 0
            for row in rows[done : done + ROWS]:
                if length > SLICE_BYTES or row.id in recent:
                    break
                found.append((row, bodies := stored.bodies(connection, row)))
                length += sum(map(len, filter(None, bodies)))
            return found

        def made(some: Iterable[tuple[JobRow, stored.Bodies]]) -> list[bytes | None]:
            return [make(row, bodies) for row, bodies in some]

        found = await read(slice_)
        done += len(found)
        # What takes the time is to unpack: not on the database's thread, and on two cores where there are two.
        halves = (found[: len(found) // 2], found[len(found) // 2 :])
        before, behind = await asyncio.gather(*(asyncio.to_thread(made, half) for half in halves))
        items = before + behind
        for (row, bodies), item in zip(found, items, strict=True):
            if item is not None and None not in bodies:
                recent.put(row.id, item)
        yield [item for item in items if item is not None]
