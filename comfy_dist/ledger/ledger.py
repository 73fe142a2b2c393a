"""The ledger: jobs that wait or run in memory, everything in SQLite."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic_core import from_json

from comfy_dist.ledger import listing, stored
from comfy_dist.ledger.backlog import Backlog
from comfy_dist.ledger.database import Database, Renewed, Unusable
from comfy_dist.ledger.fold import JobRow, JobState
from comfy_dist.ledger.outbox import Outbox
from comfy_dist.ledger.recent import Recent
from comfy_dist.ledger.retention import Pruning, Retention
from comfy_dist.ledger.search import Search
from comfy_dist.ledger.steps import Change, Counters, changes_a_job, steps_of
from comfy_dist.ledger.webhooks import Webhooks
from comfy_dist.messages import Cleared, Deleted, WebhookClaimed, now_ms
from comfy_dist.transport import Bookmark, Recorded

log = logging.getLogger(__name__)

#: Seconds a client waits at most to find what it has just sent.
SETTLE_SECONDS = 1.0
#: Between two tries to write where there is no space.
RETRY_SECONDS = 1.0
#: Between two looks whether the file is still there.
LOOK_SECONDS = 5.0
#: Between two walks over what is kept.
PRUNE_SECONDS = 60.0

T = TypeVar("T")


class Ledger:
    """Folds recorded events; answers as ComfyUI's /queue and /history show them."""

    def __init__(
        self,
        path: Path,
        frontend: str = "",
        *,
        retention: Retention | None = None,
        behind: float = 0.0,
    ) -> None:
        """`behind`: seconds that writing may wait for more to write, where the event log has it all anyway."""
        self._retention = retention or Retention()
        self._behind = behind
        self._database = Database(path, self._made_anew)
        self.outbox = Outbox(self._database)
        self.webhooks = Webhooks(self._database, frontend)
        self._backlog = Backlog(self.outbox, self.webhooks)
        self._live: dict[str, JobRow] = {}
        self._counters = Counters()
        self._recent = Recent()
        #: How far the log is folded.
        self.bookmark: Bookmark | None = None
        #: Set when the file had to be made anew: `rewind`, and read the log again.
        self.renewed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._to_write = asyncio.Event()
        self._expected: set[Hashable] = set()
        self._folded = asyncio.Condition()

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.webhooks.open()
        try:
            await self._database.open()
            await self._load()
        except Renewed:
            await self._load()
        # It is empty, and the log is read from the first event anyway.
        self.renewed.clear()

    async def _load(self) -> None:
        def load(connection: sqlite3.Connection) -> tuple[Bookmark | None, list[JobRow], Counters]:
            row = connection.execute("SELECT offset, message_id FROM bookmark").fetchone()
            (arrival,) = connection.execute("SELECT coalesce(max(arrival), 0) FROM jobs").fetchone()
            (rank,) = connection.execute(
                "SELECT coalesce(max(rank), 0) FROM jobs WHERE rank IS NOT NULL"
            ).fetchone()
            return (
                Bookmark(offset=row[0], message_id=row[1]) if row else None,
                stored.rows(connection, "WHERE ended_at = 0"),
                Counters(arrival, rank),
            )

        self.bookmark, rows, self._counters = await self._database.run(load)
        self._live = {row.id: row for row in rows}

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            await self._database.run(lambda c: self._backlog.write(c))
        except (Unusable, Renewed) as error:
            log.warning("What was folded last is not written, and read from the event log again: %s", error)
        await self._database.close()

    def _made_anew(self) -> None:
        """On the database's thread: what is folded is void, and nothing of it may be written."""
        self._backlog.forget()
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self.renewed.set)

    # What was just sent from here

    def expect(self, key: Hashable) -> None:
        """The id of a job, or a change of the history, that was just sent from here: `settled` waits for it."""
        self._expected.add(key)

    def forget(self, key: Hashable) -> None:
        """It was not accepted after all."""
        self._expected.discard(key)

    async def settled(self) -> None:
        """Wait until what was sent from here is folded, so that a client finds what it has just done."""
        if not self._expected:
            return
        waited_for = set(self._expected)
        try:
            async with asyncio.timeout(SETTLE_SECONDS), self._folded:
                await self._folded.wait_for(lambda: waited_for.isdisjoint(self._expected))
        except TimeoutError:
            # Published without a confirmation, or the log is far behind: not worth a client's time.
            self._expected -= waited_for

    async def shows(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until the condition is true of what is folded, so long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._folded:
                await self._folded.wait_for(condition)

    # What waits and runs

    @property
    def remaining(self) -> int:
        """Jobs that wait or run: ComfyUI's queue_remaining."""
        return len(self._live)

    @property
    def accepted(self) -> int:
        """The same with those that were just accepted here."""
        return len(self._live) + sum(key not in self._live for key in self._expected)

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return sum(1 for _ in self._in_state(JobState.PENDING))

    @property
    def pending(self) -> list[JobRow]:
        """In the order of execution."""
        return sorted(self._in_state(JobState.PENDING), key=lambda row: row.turn)

    @property
    def running(self) -> list[JobRow]:
        """In the order of their beginnings."""
        return sorted(self._in_state(JobState.RUNNING), key=lambda row: (row.started_at, row.arrival))

    def _in_state(self, state: JobState) -> Iterable[JobRow]:
        return (row for row in self._live.values() if row.state is state)

    def of_client(self, client_id: str) -> list[JobRow]:
        """The client's jobs that wait or run."""
        return [row for row in self._live.values() if row.client_id == client_id]

    def goes_on(self, job_id: str) -> bool:
        """Whether the job waits or runs, or was just accepted here."""
        return job_id in self._live or job_id in self._expected

    def live(self, job_id: str) -> JobRow | None:
        """A job that waits or runs."""
        return self._live.get(job_id)

    # Folding

    async def rewind(self) -> None:
        """Forget everything folded; the outbox stays."""

        def forget(connection: sqlite3.Connection) -> None:
            for table in ("jobs", "submissions", "results", "traces", "words", "bookmark"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608  (names of ours)

        self._backlog.forget()
        await self._insist(forget)
        self._live, self.bookmark, self._counters = {}, None, Counters()
        self._recent.clear()
        self.renewed.clear()

    async def apply(self, entries: Sequence[Recorded]) -> list[Change]:
        """Fold a batch; what changed, in order. It is written a moment later, in one transaction with others.

        What is asked of the tables afterwards finds it all the same.
        """
        if self.renewed.is_set():
            # Of what comes before these nothing is left.
            return []
        while self._backlog.heavy:
            await self._insist(self._backlog.write)
        ids = {entry.event.job_id for entry in entries if changes_a_job(entry.event)}
        rows = {id_: row for id_ in ids if (row := self._live.get(id_)) is not None}
        # What was just accepted here under a fresh id cannot be in the tables yet.
        if unknown := ids - rows.keys() - self._expected:
            found = await self._insist(lambda c: [self._backlog.find(c, id_) for id_ in unknown])
            rows |= {row.id: row for row in found if row is not None}
        steps = steps_of(entries, rows, self._counters)
        changes = [step for step in steps if isinstance(step, Change)]
        for change in changes:
            if change.after.state.ended or change.after.void:
                self._live.pop(change.after.id, None)
            else:
                self._live[change.after.id] = change.after
        if entries:
            self.bookmark = entries[-1].bookmark
            self._backlog.add(steps, self.bookmark)
            for step in steps:
                if isinstance(step, WebhookClaimed):
                    self.webhooks.folded(step)
            self._to_write.set()
        # What has begun before its submission came is in no queue yet, and goes on being waited for.
        self._expected -= {
            change.after.id for change in changes if change.after.created_at or change.after.id not in self._live
        }
        self._expected -= {step for step in steps if isinstance(step, (Deleted, Cleared))}
        async with self._folded:
            self._folded.notify_all()
        return changes

    async def keep(self) -> None:
        """Write what is folded, forget what is old, look after the file; until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write_behind())
            group.create_task(self._look_after())
            group.create_task(self._prune())

    async def _write_behind(self) -> None:
        while True:
            await self._to_write.wait()
            if self._behind:
                await asyncio.sleep(self._behind)
            self._to_write.clear()
            with contextlib.suppress(Renewed):
                await self._insist(self._backlog.write)

    async def _insist(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Again and again while there is no space or the disk fails: that ends nothing. Raises Renewed."""
        said = False
        while True:
            try:
                done = await self._database.run(function)
            except Unusable as error:
                if not said:
                    log.error("%s Until then nothing new is accepted here; it goes on by itself.", error)
                said = True
            else:
                if said:
                    log.info("The ledger can be used again.")
                return done
            await asyncio.sleep(RETRY_SECONDS)

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with contextlib.suppress(Renewed, Unusable):
                await self._database.look()

    async def _prune(self) -> None:
        while True:
            with contextlib.suppress(Renewed, Unusable):
                await self.prune()
            await asyncio.sleep(PRUNE_SECONDS)

    async def prune(self) -> None:
        """Forget what is older or more than is to be kept."""
        walk = Pruning(self._retention, now_ms())
        # Who waits for an answer is served between the slices.
        while not await self.read(walk.step):
            pass

    # What is asked

    async def find(self, job_id: str) -> JobRow | None:
        """A job in any state."""
        if (row := self._live.get(job_id)) is not None:
            return row
        return await self._database.run(lambda c: self._backlog.find(c, job_id))

    async def submission(self, job_id: str) -> list[Any] | None:
        """ComfyUI's queue item of a known job: [number, id, prompt, extra_data, outputs]."""

        def read(connection: sqlite3.Connection) -> bytes | None:
            row = stored.find(connection, job_id)
            # What was deleted keeps its body for a while.
            if row is not None and stored.hidden(connection, row):
                return None
            packed = stored.bodies(connection, row).submission if row else None
            return None if packed is None else stored.unpack(packed)

        body = await self.read(read)
        return None if body is None else list(from_json(body))

    def queue(self, user: str | None = None) -> AsyncIterator[bytes]:
        """{"queue_running": [...], "queue_pending": [...]}, items as ComfyUI's; where a user is named, theirs."""
        # What only began so far is shown when its submission has come.
        running, pending = (
            [row for row in rows if row.created_at and user in (None, row.user)]
            for rows in (self.running, self.pending)
        )
        return self._whole(listing.queue(self.read, running, pending))

    def history(
        self, max_items: int | None = None, offset: int = -1, search: Search | None = None
    ) -> AsyncIterator[bytes]:
        """{id: entry}, oldest first; max_items alone: the newest so many (ComfyUI's GET /history)."""
        return self._whole(listing.history(self.read, self._recent, search or Search(), max_items, offset))

    async def _whole(self, slices: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for slice_ in slices:
                yield slice_
        except sqlite3.DatabaseError as error:
            # Out of a body, which is unpacked elsewhere than on the database's thread.
            await self._database.renew(str(error))

    async def entry_json(self, job_id: str, user: str | None = None) -> bytes:
        """{id: entry}, or {} where the history, of that user, has none."""

        def read(connection: sqlite3.Connection) -> bytes:
            row = stored.find(connection, job_id)
            listed = row is not None and row.rank is not None and user in (None, row.user)
            entry = stored.entry_of(row, stored.bodies(connection, row)) if row is not None and listed else None
            return b"{%b}" % (entry or b"")

        return await self.read(read)

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query of the tables (stored.py) that finds all that is folded."""

        def write_and_read(connection: sqlite3.Connection) -> T:
            # Where there is no space, what was written before is answered.
            with contextlib.suppress(sqlite3.OperationalError):
                self._backlog.write(connection)
            return query(connection)

        if self.renewed.is_set():
            # What waits is known by its rows alone until the log is read again.
            raise Renewed("The ledger is being built again from the event log; ask again in a moment.")
        return await self._database.run(write_and_read if not self._backlog.empty else query)
