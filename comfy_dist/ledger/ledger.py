"""The ledger: jobs that wait or run in memory, everything in SQLite."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard, TypeVar

from pydantic_core import from_json

from comfy_dist.ledger import stored
from comfy_dist.ledger.database import Database
from comfy_dist.ledger.fold import JobEvent, JobRow, JobState, fold
from comfy_dist.ledger.outbox import Outbox
from comfy_dist.ledger.webhooks import Webhooks
from comfy_dist.messages import (
    Cancelled,
    Cleared,
    Deleted,
    Event,
    Failed,
    Finished,
    Submitted,
    WebhookClaimed,
    WebhookTried,
)
from comfy_dist.transport import Bookmark, Recorded

#: ComfyUI's own bound of the history.
HISTORY_LIMIT = 10_000
#: Seconds a client waits at most to find what it has just sent.
SETTLE_SECONDS = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """An event and what it made of its job; before is None where the job was not known."""

    event: JobEvent
    before: JobRow | None
    after: JobRow

    @property
    def ended(self) -> bool:
        """Whether this event is the end of the job (the first one that is)."""
        return self.after.state.ended and not (self.before and self.before.state.ended)


#: What one entry of the log asks to be written.
_Step: TypeAlias = Change | Deleted | Cleared | WebhookClaimed | WebhookTried


class Ledger:
    """Folds recorded events; answers as ComfyUI's /queue and /history show them.

    Queue and history are answered as JSON text, put together from stored pieces: however long they are, they are
    never objects in this process.
    """

    def __init__(self, path: Path, frontend: str = "") -> None:
        self._database = Database(path)
        self.outbox = Outbox(self._database)
        self.webhooks = Webhooks(self._database, frontend)
        self._live: dict[str, JobRow] = {}
        #: How far the log is folded.
        self.bookmark: Bookmark | None = None
        self._writing: asyncio.Future[None] | None = None
        self._expected: set[str] = set()
        self._folded = asyncio.Condition()

    async def open(self) -> None:
        await self._database.open()
        self.webhooks.open()
        self.bookmark = await self._database.run(_read_bookmark)
        self._live = {
            row.id: row for row in await self._database.run(lambda c: stored.rows(c, "WHERE ended_at = 0"))
        }

    async def close(self) -> None:
        if self._writing is not None:
            await self._writing
        await self._database.close()

    def expect(self, job_id: str) -> None:
        """A job that was just accepted here: `settled` waits for it."""
        self._expected.add(job_id)

    def forget(self, job_id: str) -> None:
        """It was not accepted after all."""
        self._expected.discard(job_id)

    async def settled(self) -> None:
        """Wait until what was accepted here is folded, so that a client finds what it has just sent."""
        if not self._expected:
            return
        waited_for = set(self._expected)
        try:
            async with asyncio.timeout(SETTLE_SECONDS), self._folded:
                await self._folded.wait_for(lambda: not waited_for & self._expected)
        except TimeoutError:
            # Published without a confirmation, or the log is far behind: not worth a client's time.
            self._expected -= waited_for

    async def shows(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until the condition is true of what is folded, so long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._folded:
                await self._folded.wait_for(condition)

    @property
    def remaining(self) -> int:
        """Jobs that wait or run: ComfyUI's queue_remaining."""
        return len(self._live)

    @property
    def accepted(self) -> int:
        """The same with those that were just accepted here."""
        return len(self._live) + len(self._expected)

    @property
    def pending(self) -> list[JobRow]:
        """In the order of execution."""
        return self._in_state(JobState.PENDING)

    @property
    def running(self) -> list[JobRow]:
        return self._in_state(JobState.RUNNING)

    def _in_state(self, state: JobState) -> list[JobRow]:
        rows = (row for row in self._live.values() if row.state is state)
        return sorted(rows, key=lambda row: (row.urgency, row.number, row.id))

    def of_client(self, client_id: str) -> list[JobRow]:
        """The client's jobs that wait or run."""
        return [row for row in self._live.values() if row.client_id == client_id]

    def live(self, job_id: str) -> JobRow | None:
        """A job that waits or runs."""
        return self._live.get(job_id)

    async def find(self, job_id: str) -> JobRow | None:
        """A job in any state."""
        if (row := self._live.get(job_id)) is not None:
            return row
        return await self._database.run(lambda c: stored.find(c, job_id))

    async def submission(self, job_id: str) -> list[Any] | None:
        """ComfyUI's queue item of a known job: [number, id, prompt, extra_data, outputs]."""
        body = await self._database.run(lambda c: stored.item(c, job_id))
        return None if body is None else list(from_json(body))

    async def rewind(self) -> None:
        """Forget everything folded; the outbox stays."""

        def forget(connection: sqlite3.Connection) -> None:
            for table in ("jobs", "submissions", "results", "bookmark"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608  (names of ours)

        await self._database.run(forget)
        self._live, self.bookmark = {}, None

    async def apply(self, entries: Sequence[Recorded]) -> list[Change]:
        """Fold a batch; what changed, in order.

        It is written behind the answer, in one transaction: whatever is asked afterwards waits its turn on the
        database's thread and finds it.
        """
        if self._writing is not None:
            await self._writing
        ids = _ids(entries)
        rows = {id_: row for id_ in ids if (row := self._live.get(id_)) is not None}
        # What was just accepted here under a fresh id cannot be in the tables yet.
        if unknown := ids - rows.keys() - self._expected:
            found = await self._database.run(lambda c: [stored.find(c, id_) for id_ in unknown])
            rows |= {row.id: row for row in found if row is not None}
        steps = _fold(entries, rows)
        changes = [step for step in steps if isinstance(step, Change)]
        for change in changes:
            if change.after.state.ended:
                self._live.pop(change.after.id, None)
            else:
                self._live[change.after.id] = change.after
        if entries:
            self.bookmark = entries[-1].bookmark
        self._writing = self._database.start(lambda c: self._write(c, steps, entries))
        self._expected -= {change.after.id for change in changes}
        async with self._folded:
            self._folded.notify_all()
        return changes

    def _write(self, connection: sqlite3.Connection, steps: Sequence[_Step], entries: Sequence[Recorded]) -> None:
        self.outbox.sweep(connection)
        for step in steps:
            if isinstance(step, WebhookClaimed | WebhookTried):
                self.webhooks.fold(connection, step)
                continue
            _write(connection, step)
            if isinstance(step, Change):
                self.webhooks.fold_job(connection, step.event, step.before, step.after)
        if entries:
            mark = entries[-1].bookmark
            connection.execute("INSERT OR REPLACE INTO bookmark VALUES (1, ?, ?)", (mark.offset, mark.message_id))

    async def queue_json(self) -> bytes:
        """{"queue_running": [...], "queue_pending": [...]}, items as ComfyUI's."""
        running, pending = self.running, self.pending

        def read(connection: sqlite3.Connection) -> bytes:
            parts = [
                b",".join(item for row in rows if (item := stored.item(connection, row.id)) is not None)
                for rows in (running, pending)
            ]
            return b'{"queue_running":[%b],"queue_pending":[%b]}' % (parts[0], parts[1])

        return await self._database.run(read)

    async def history_json(self, max_items: int | None = None, offset: int = -1) -> bytes:
        """{id: entry}, oldest first; max_items alone: the newest so many (ComfyUI's GET /history)."""
        limit = HISTORY_LIMIT if max_items is None or max_items < 0 else min(max_items, HISTORY_LIMIT)

        def read(connection: sqlite3.Connection) -> bytes:
            order, skip = ("DESC", 0) if offset < 0 else ("ASC", offset)
            ids = connection.execute(
                f"SELECT id FROM jobs WHERE listed AND NOT hidden ORDER BY rank {order} LIMIT ? OFFSET ?",  # noqa: S608
                (limit, skip),
            ).fetchall()
            if offset < 0:
                ids.reverse()
            return b"{%b}" % b",".join(stored.entry(connection, id_) for (id_,) in ids)

        return await self._database.run(read)

    async def entry_json(self, job_id: str) -> bytes:
        """{id: entry}, or {} where the history has none."""

        def read(connection: sqlite3.Connection) -> bytes:
            row = connection.execute(
                "SELECT id FROM jobs WHERE id = ? AND listed AND NOT hidden", (job_id,)
            ).fetchone()
            return b"{%b}" % stored.entry(connection, job_id) if row else b"{}"

        return await self._database.run(read)

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query of the tables (stored.py)."""
        return await self._database.run(query)


def _ids(entries: Sequence[Recorded]) -> set[str]:
    return {entry.event.job_id for entry in entries if _changes_a_job(entry.event)}


def _changes_a_job(event: Event | None) -> TypeGuard[JobEvent]:
    return event is not None and not isinstance(event, (Deleted, Cleared, WebhookClaimed, WebhookTried))


def _fold(entries: Sequence[Recorded], rows: dict[str, JobRow]) -> list[_Step]:
    """What the entries do, one after another; `rows` is what is known before and, then, after them."""
    steps: list[_Step] = []
    for entry in entries:
        match entry.event:
            case None:
                pass
            case Deleted() | Cleared() | WebhookClaimed() | WebhookTried():
                steps.append(entry.event)
            case event:
                before = rows.get(event.job_id)
                after = rows[event.job_id] = fold(before, event)
                steps.append(Change(event, before, after))
    return steps


def _write(connection: sqlite3.Connection, step: Change | Deleted | Cleared) -> None:
    match step:
        case Deleted(job_ids=ids):
            _hide(connection, ids)
        case Cleared():
            listed = connection.execute("SELECT id FROM jobs WHERE listed AND NOT hidden").fetchall()
            _hide(connection, [id_ for (id_,) in listed])
        case Change():
            _write_change(connection, step)


def _write_change(connection: sqlite3.Connection, change: Change) -> None:
    event, job_id = change.event, change.after.id
    if isinstance(event, Submitted) and (change.before is None or not change.before.created_at):
        body = stored.pack(stored.submission(event))
        connection.execute("INSERT OR IGNORE INTO submissions VALUES (?, ?)", (job_id, body))
    if change.ended and isinstance(event, (Finished, Failed, Cancelled)):
        body = stored.pack(stored.result_of(event))
        connection.execute("INSERT OR REPLACE INTO results VALUES (?, ?)", (job_id, body))
    if change.after != change.before:
        _write_row(connection, change)
    if isinstance(event, Submitted) and (workflow := stored.workflow_id(event.extra_data)) is not None:
        connection.execute("UPDATE jobs SET workflow_id = ? WHERE id = ?", (workflow, job_id))


_PUT_ROW = (
    f"INSERT INTO jobs ({', '.join(stored.COLUMNS)}) VALUES ({', '.join('?' * len(stored.COLUMNS))}) "  # noqa: S608
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{each} = excluded.{each}' for each in stored.COLUMNS[1:])}"
)


def _write_row(connection: sqlite3.Connection, change: Change) -> None:
    row = change.after
    connection.execute(_PUT_ROW, stored.columns(row))
    if change.ended:
        # As in ComfyUI, a job that was cancelled before it began leaves no history entry.
        listed = not (isinstance(change.event, Cancelled) and not change.event.started)
        connection.execute(
            "UPDATE jobs SET rank = (SELECT coalesce(max(rank), 0) + 1 FROM jobs), listed = ? WHERE id = ?",
            (listed, row.id),
        )


def _hide(connection: sqlite3.Connection, ids: Sequence[str]) -> None:
    """Take ended jobs out of the history. Their ids stay: a late event must not bring them back."""
    for id_ in ids:
        if connection.execute("UPDATE jobs SET hidden = 1 WHERE id = ? AND listed", (id_,)).rowcount:
            connection.execute("DELETE FROM submissions WHERE id = ?", (id_,))
            connection.execute("DELETE FROM results WHERE id = ?", (id_,))


def _read_bookmark(connection: sqlite3.Connection) -> Bookmark | None:
    row = connection.execute("SELECT offset, message_id FROM bookmark").fetchone()
    return Bookmark(offset=row[0], message_id=row[1]) if row else None
