"""What the ledger no longer keeps: emptied in small slices, so that nobody waits for it."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass

#: Seconds of one slice, and rows looked at in it.
SLICE_SECONDS = 0.02
SLICE_ROWS = 5000


@dataclass(frozen=True, slots=True)
class Retention:
    """The bounds of the event stream, kept here too."""

    seconds: float = 7 * 86400.0
    #: Of the pages in use, those of waiting jobs among them.
    bytes: int = 2 * 2**30


@dataclass(slots=True)
class Pruning:
    """One walk over the jobs, the oldest first; `step` is called until it says that it is done.

    What ended before the retention began, what is too much and what was taken out of the history loses its bodies.
    The id stays as long again: an event that comes late must not make it a new job. What waits or runs stays.
    """

    retention: Retention
    #: Milliseconds since the epoch.
    now: int
    _next: int = 0

    def step(self, connection: sqlite3.Connection) -> bool:
        """Whether the walk is over."""
        began = time.perf_counter()
        found = connection.execute(
            "SELECT arrival, ended_at, hidden FROM jobs WHERE arrival >= ? ORDER BY arrival LIMIT ?",
            (self._next, SLICE_ROWS),
        ).fetchall()
        oldest = self.now - self.retention.seconds * 1000
        too_much = self._too_much(connection)
        for arrival, ended_at, hidden in found:
            self._next = arrival + 1
            if not ended_at:
                continue
            if hidden and ended_at < oldest - self.retention.seconds * 1000:
                connection.execute("DELETE FROM jobs WHERE arrival = ?", (arrival,))
            elif hidden or ended_at < oldest or too_much:
                _empty(connection, arrival, hidden=bool(hidden))
                too_much = too_much and self._too_much(connection)
            if time.perf_counter() - began > SLICE_SECONDS:
                return False
        return len(found) < SLICE_ROWS

    def _too_much(self, connection: sqlite3.Connection) -> bool:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        return bool((pages - free) * size > self.retention.bytes)


def _empty(connection: sqlite3.Connection, arrival: int, *, hidden: bool) -> None:
    gone = connection.execute("DELETE FROM submissions WHERE arrival = ?", (arrival,)).rowcount
    gone += connection.execute("DELETE FROM results WHERE arrival = ?", (arrival,)).rowcount
    if gone:
        connection.execute("DELETE FROM traces WHERE arrival = ?", (arrival,))
        connection.execute("DELETE FROM words WHERE rowid IN (?, ?)", (2 * arrival, 2 * arrival + 1))
    if not hidden:
        connection.execute("UPDATE jobs SET hidden = 1, rank = NULL WHERE arrival = ?", (arrival,))
