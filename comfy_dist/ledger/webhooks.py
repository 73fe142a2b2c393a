"""Webhooks that are to be sent: a fold of the events, so that every frontend knows the same of them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import from_json, to_json

from comfy_dist.ledger import stored
from comfy_dist.ledger.database import Database
from comfy_dist.ledger.fold import JobEvent, JobRow, JobState
from comfy_dist.messages import HookEvent, Submitted, WebhookClaimed, WebhookTried, now_ms

#: Milliseconds for which a claim stands: an attempt and its news take less, or their frontend is gone.
LEASE_MS = 30_000
#: Milliseconds that a delivery is first left to the frontend that accepted the job, or tried last.
TAKEOVER_MS = 60_000
#: Bytes of a body above which outputs and traceback are left out.
LARGEST = 256 * 1024

_END = {
    JobState.FINISHED: HookEvent.SUCCESS,
    JobState.FAILED: HookEvent.ERROR,
    JobState.CANCELLED: HookEvent.INTERRUPTED,
}
#: In the words of GET /jobs.
_STATUS = {
    HookEvent.START: "in_progress",
    HookEvent.SUCCESS: "completed",
    HookEvent.ERROR: "failed",
    HookEvent.INTERRUPTED: "cancelled",
}
#: Of an execution_error; the inputs and outputs that it holds too may be large.
_ERROR_KEYS = ("node_id", "node_type", "exception_type", "exception_message", "traceback")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delivery that may be claimed."""

    id: str
    job_id: str
    host: str
    #: Attempts that were claimed so far.
    attempt: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery that this frontend has claimed."""

    id: str
    url: str
    body: bytes


class Webhooks:
    """The tables `webhooks`, of jobs that have not ended, and `deliveries`, of what is to be sent.

    A delivery's `due` is by this machine's clock, for those of others may differ: what crosses the wire is
    durations. Nothing here is forgotten when the log is folded anew: ids follow from the events, so what was
    delivered is dropped again by the news of it.
    """

    def __init__(self, database: Database, frontend: str) -> None:
        self._database = database
        self._frontend = frontend
        self._loop: asyncio.AbstractEventLoop | None = None
        self._claims: dict[str, asyncio.Future[None]] = {}
        #: Set when there may be more to send.
        self.changed = asyncio.Event()

    def open(self) -> None:
        self._loop = asyncio.get_running_loop()

    # In the ledger's thread, as part of its transaction

    def fold_job(
        self, connection: sqlite3.Connection, event: JobEvent, before: JobRow | None, after: JobRow
    ) -> None:
        """What a job's event makes due; to be called after the event is written."""
        known = before
        if after.void:
            # What is submitted under this id later has a webhook of its own, or none.
            connection.execute("DELETE FROM webhooks WHERE job_id = ?", (after.id,))
            return
        if isinstance(event, Submitted):
            if event.webhook is None or (before and before.created_at):
                return
            known = None
            connection.execute(
                "INSERT OR IGNORE INTO webhooks VALUES (?, ?, ?, ?)",
                (after.id, event.webhook.url, json.dumps(event.webhook.events), event.frontend == self._frontend),
            )
        if not (due := news(known, after)):
            return
        hook = connection.execute(
            "SELECT url, events, ours FROM webhooks WHERE job_id = ?", (after.id,)
        ).fetchone()
        if hook is None:
            return
        url, wanted, ours = hook
        for each in due:
            if each in json.loads(wanted):
                self._put(connection, each, after, url, ours=ours)
        if after.state.ended:
            connection.execute("DELETE FROM webhooks WHERE job_id = ?", (after.id,))
        self._tell()

    def _put(self, connection: sqlite3.Connection, event: HookEvent, row: JobRow, url: str, *, ours: bool) -> None:
        at = row.started_at if event is HookEvent.START else row.ended_at
        id_ = "msg_" + hashlib.sha256(f"{row.id}\n{event}\n{at}".encode()).hexdigest()[:32]
        rest = stored.result_in(stored.bodies(connection, row))
        result = from_json(b"{%b}" % rest) if rest else {}
        connection.execute(
            "INSERT OR IGNORE INTO deliveries VALUES (?, ?, ?, ?, ?, 0, NULL, ?)",
            (
                id_,
                row.id,
                url,
                urlsplit(url).netloc.lower(),
                body(event, row, result, at),
                now_ms() + (0 if ours else TAKEOVER_MS),
            ),
        )

    def fold(self, connection: sqlite3.Connection, event: WebhookClaimed | WebhookTried) -> None:
        """What a frontend says of a delivery."""
        patience = 0 if event.frontend == self._frontend else TAKEOVER_MS
        match event:
            case WebhookClaimed():
                # Of several with one number the first has it.
                connection.execute(
                    "UPDATE deliveries SET attempt = ?, holder = ?, due = ? WHERE id = ? AND attempt = ?",
                    (
                        event.attempt,
                        event.frontend,
                        now_ms() + LEASE_MS + patience,
                        event.webhook,
                        event.attempt - 1,
                    ),
                )
            case WebhookTried(again_in=None):
                connection.execute("DELETE FROM deliveries WHERE id = ?", (event.webhook,))
            case WebhookTried():
                connection.execute(
                    "UPDATE deliveries SET holder = NULL, due = ? WHERE id = ? AND attempt = ?",
                    (now_ms() + int(1000 * (event.again_in or 0)) + patience, event.webhook, event.attempt),
                )
        self._tell()

    def held(self, connection: sqlite3.Connection, delivery_id: str, attempt: int) -> Delivery | None:
        """What is to be sent, where that attempt is this frontend's."""
        row = connection.execute(
            "SELECT id, url, body FROM deliveries WHERE id = ? AND attempt = ? AND holder = ?",
            (delivery_id, attempt, self._frontend),
        ).fetchone()
        return Delivery(*row) if row else None

    def _tell(self) -> None:
        """What is asked of the database from then on finds it written."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self.changed.set)

    # In the event loop

    def folded(self, event: WebhookClaimed) -> None:
        """To be called before it is written: who claimed waits for it."""
        if event.frontend == self._frontend:
            claim = self._claims.pop(event.webhook, None)
            if claim is not None and not claim.done():
                claim.set_result(None)

    def claim(self, delivery_id: str) -> asyncio.Future[None]:
        """Done when this frontend's next claim of that delivery, and so all that was claimed before, is folded."""
        claim = self._claims[delivery_id] = asyncio.get_running_loop().create_future()
        return claim

    def no_claim(self, delivery_id: str) -> None:
        self._claims.pop(delivery_id, None)

    async def next(self, busy: Collection[str], full: Collection[str]) -> Waiting | float | None:
        """What may be claimed and is due longest, but for these deliveries and hosts; else the seconds until
        something is due; None where nothing waits."""

        # As they are now: the query runs on another thread.
        skipped = (tuple(busy), frozenset(full))

        def read(connection: sqlite3.Connection) -> tuple[int, Waiting] | None:
            return min(_heads(connection, *skipped), default=None, key=lambda head: head[0])

        if (head := await self._database.run(read)) is None:
            return None
        due, waiting = head
        seconds = (due - now_ms()) / 1000
        return seconds if seconds > 0 else waiting


def _heads(
    connection: sqlite3.Connection, busy: Collection[str], full: Collection[str]
) -> Iterator[tuple[int, Waiting]]:
    """What is due first of each host, however much waits behind it."""
    marks = ",".join("?" * len(busy))
    host = ""
    while row := connection.execute(
        "SELECT host FROM deliveries WHERE host > ? ORDER BY host LIMIT 1", (host,)
    ).fetchone():
        (host,) = row
        head = connection.execute(
            f"SELECT due, id, job_id, host, attempt FROM deliveries WHERE host = ? AND id NOT IN ({marks}) "  # noqa: S608
            "ORDER BY due LIMIT 1",
            (host, *busy),
        ).fetchone()
        if head is not None and host not in full:
            due, *rest = head
            yield due, Waiting(*rest)


def news(before: JobRow | None, after: JobRow) -> list[HookEvent]:
    """What can be told of a job that could not be told before."""
    found = []
    if after.started_at and not (before and before.started_at):
        found.append(HookEvent.START)
    if after.state.ended and not (before and before.state.ended):
        found.append(_END[after.state])
    return found


def body(event: HookEvent, row: JobRow, result: dict[str, Any], at: int) -> bytes:
    """The JSON that is sent, the same on every frontend."""
    data: dict[str, Any] = {
        "prompt_id": row.id,
        "status": _STATUS[event],
        "worker": row.worker,
        "create_time": row.created_at or None,
        "execution_start_time": row.started_at or None,
    }
    if event is not HookEvent.START:
        messages = (result.get("status") or {}).get("messages") or []
        error = next((said for name, said in messages if name == "execution_error"), None)
        data |= {
            "execution_end_time": row.ended_at,
            "outputs": result.get("outputs") or {},
            "error": {key: error[key] for key in _ERROR_KEYS if key in error} if error else None,
        }
    time = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds")
    message = {"type": event, "timestamp": time.replace("+00:00", "Z"), "data": data}
    packed = to_json(message, inf_nan_mode="null")
    if len(packed) > LARGEST:  # never that of a start
        data["outputs"] = None
        if data["error"]:
            data["error"].pop("traceback", None)
        packed = to_json(message, inf_nan_mode="null")
    return packed
