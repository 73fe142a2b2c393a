"""What is folded and not yet written: many events of a job make one row."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic_core import to_json

from comfy_dist.ledger import stored, words
from comfy_dist.ledger.fold import JobRow
from comfy_dist.ledger.outbox import Outbox
from comfy_dist.ledger.steps import Change, Step
from comfy_dist.ledger.webhooks import Webhooks
from comfy_dist.messages import Cancelled, Cleared, Deleted, Ended, Failed, Finished, Submitted
from comfy_dist.transport import Bookmark

#: Nodes of unwritten prompts above which folding waits for the writing: as objects they take some kB each.
HEAVY = 4000


@dataclass(slots=True)
class _Batch:
    steps: list[Step] = field(default_factory=list)
    #: The newest rows of those that have ended; of the others the ledger itself knows.
    ended: dict[str, JobRow] = field(default_factory=dict)
    mark: Bookmark | None = None
    weight: int = 0

    def add(self, steps: Sequence[Step], mark: Bookmark | None) -> None:
        self.steps += steps
        self.mark = mark or self.mark
        for step in steps:
            self.weight += 1
            if not isinstance(step, Change):
                continue
            if step.after.state.ended or step.after.void:
                self.ended[step.after.id] = step.after
            if isinstance(step.event, Submitted):
                # The page's workflow says the same once more, and where it is drawn.
                self.weight += 3 * len(step.event.prompt)


class Backlog:
    """Filled by the event loop, written by the database's thread; nothing is lost where writing fails."""

    def __init__(self, outbox: Outbox, webhooks: Webhooks) -> None:
        self._outbox = outbox
        self._webhooks = webhooks
        self._batch = _Batch()
        self._lock = threading.Lock()

    @property
    def empty(self) -> bool:
        return not self._batch.steps and self._batch.mark is None

    @property
    def heavy(self) -> bool:
        return self._batch.weight > HEAVY

    def add(self, steps: Sequence[Step], mark: Bookmark | None) -> None:
        with self._lock:
            self._batch.add(steps, mark)

    def forget(self) -> None:
        with self._lock:
            self._batch = _Batch()

    # On the database's thread

    def find(self, connection: sqlite3.Connection, job_id: str) -> JobRow | None:
        """A job that is not live, written or not."""
        return self._batch.ended.get(job_id) or stored.find(connection, job_id)

    def write(self, connection: sqlite3.Connection) -> None:
        """Everything so far, in a transaction of its own."""
        with self._lock:
            batch, self._batch = self._batch, _Batch()
        try:
            with connection:
                swept = self._outbox.sweep(connection)
                self._write(connection, batch)
        except BaseException:
            with self._lock:
                newer, self._batch = self._batch, batch
                self._batch.add(newer.steps, newer.mark)
            raise
        self._outbox.swept(swept)

    def _write(self, connection: sqlite3.Connection, batch: _Batch) -> None:
        changes: dict[str, list[Change]] = {}
        for step in batch.steps:
            if isinstance(step, Change):
                changes.setdefault(step.after.id, []).append(step)
                continue
            # The others are of many jobs: what came before them is written before them.
            self._write_jobs(connection, changes)
            changes = {}
            match step:
                case Deleted(job_ids=ids):
                    hide(connection, "id = ?", [(id_,) for id_ in ids])
                case Cleared(user=None):
                    hide(connection, "rank IS NOT NULL", [()])
                case Cleared(user=user):
                    hide(connection, "user = ?", [(user,)])
                case webhook:
                    self._webhooks.fold(connection, webhook)
        self._write_jobs(connection, changes)
        if batch.mark is not None:
            values = (batch.mark.offset, batch.mark.message_id)
            connection.execute("INSERT OR REPLACE INTO bookmark VALUES (1, ?, ?)", values)

    def _write_jobs(self, connection: sqlite3.Connection, changes: dict[str, list[Change]]) -> None:
        # Sorted: neighbours in the tables are written one after another.
        for of_one in sorted(changes.values(), key=lambda each: each[-1].after.arrival):
            _write_job(connection, of_one)
            for change in of_one:
                self._webhooks.fold_job(connection, change.event, change.before, change.after)


def _write_job(connection: sqlite3.Connection, changes: Sequence[Change]) -> None:
    row = changes[-1].after
    if row != changes[0].before:
        stored.put(connection, row)
    for change in changes:
        match change.event:
            case Submitted() as event if change.submitted:
                _write_submission(connection, row.arrival, event)
            case (Finished() | Failed() | Cancelled()) as event if change.ended:
                _write_end(connection, row.arrival, event)
            case _:
                pass


def _write_submission(connection: sqlite3.Connection, arrival: int, event: Submitted) -> None:
    if connection.execute("SELECT 1 FROM jobs WHERE arrival = ? AND hidden", (arrival,)).fetchone():
        return
    body = stored.pack(stored.submission(event))
    connection.execute("INSERT OR REPLACE INTO submissions VALUES (?, ?)", (arrival, body))
    found = words.of_submission(event)
    connection.execute("INSERT OR REPLACE INTO words (rowid, text) VALUES (?, ?)", (2 * arrival, found))
    if (workflow := stored.workflow_id(event.extra_data)) is not None:
        connection.execute("UPDATE jobs SET workflow_id = ? WHERE arrival = ?", (workflow, arrival))


def _write_end(connection: sqlite3.Connection, arrival: int, event: Ended) -> None:
    body = stored.pack(stored.result_of(event))
    connection.execute("INSERT OR REPLACE INTO results VALUES (?, ?)", (arrival, body))
    if event.spans:
        body = stored.pack(to_json(event.spans))
        connection.execute("INSERT OR REPLACE INTO traces VALUES (?, ?)", (arrival, body))
    if found := words.of_end(event):
        connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (2 * arrival + 1, found))


def hide(connection: sqlite3.Connection, which: str, values: Sequence[tuple[object, ...]]) -> None:
    """Take entries out of the history, by a condition of ours.

    Their ids stay for a while: a late event must not bring them back. Their bodies go when there is time.
    """
    connection.executemany(
        f"UPDATE jobs SET hidden = 1, rank = NULL WHERE {which} AND rank IS NOT NULL",  # noqa: S608
        values,
    )
