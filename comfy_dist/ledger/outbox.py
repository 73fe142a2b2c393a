"""Jobs a frontend has accepted and not yet seen safe elsewhere."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from typing import TypeAlias

from pydantic import ValidationError

from comfy_dist.ledger.database import Database
from comfy_dist.messages import Job, Revoked

log = logging.getLogger(__name__)

#: Id, nanoseconds since the epoch, the job as bytes.
_Row: TypeAlias = tuple[str, int, bytes]


class Outbox:
    """Rows are written before a job is published and removed when the broker has it, or, where the transport ends
    with the process, when the job has ended. What is found at start is published again, under the same id."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._done: list[str] = []
        self._new: dict[object, _Row] = {}
        self._writing = asyncio.Lock()

    async def put(self, job: Job) -> None:
        """Several that come at once are written in one transaction."""
        token = object()
        self._new[token] = (job.id, time.time_ns(), job.to_bytes())
        try:
            async with self._writing:
                if token in self._new:
                    await self._write(dict(self._new))
        finally:
            # Where it could not be written, whose turn is next tries again without it.
            self._new.pop(token, None)

    async def _write(self, rows: dict[object, _Row]) -> None:
        statement = "INSERT OR REPLACE INTO outbox VALUES (?, ?, ?)"
        await self._database.run_again(lambda c: c.executemany(statement, rows.values()))
        for token in rows:
            self._new.pop(token, None)

    def remove(self, job_id: str) -> None:
        """It is safe, or its revocation is. Written with the next fold; a row that a crash leaves behind is
        published or revoked again, which is void."""
        self._done.append(job_id)

    def sweep(self, connection: sqlite3.Connection) -> int:
        """Part of a transaction of the ledger's thread; what to give to `swept` when that is written."""
        done = self._done[:]
        if done:
            connection.executemany("DELETE FROM outbox WHERE id = ?", [(job_id,) for job_id in done])
        return len(done)

    def swept(self, count: int) -> None:
        del self._done[:count]

    async def revoke(self, job: Job) -> None:
        """It was refused: when this returns it is never published again, but is to be revoked.

        In the place of the job stands when it was submitted.
        """
        values = (job.created_at, job.id)
        await self._database.run_again(lambda c: c.execute("UPDATE outbox SET body = ? WHERE id = ?", values))

    async def unrevoked(self) -> list[Revoked]:
        """What was refused and not yet revoked."""
        rows = await self._database.run_again(
            lambda c: c.execute("SELECT id, body FROM outbox WHERE typeof(body) = 'integer'").fetchall()
        )
        return [Revoked(job_id=job_id, submitted_at=submitted_at) for job_id, submitted_at in rows]

    async def rest(self) -> list[Job]:
        """Everything that is left, in the order of acceptance."""
        rows = await self._database.run_again(
            lambda c: c.execute(
                "SELECT body FROM outbox LEFT JOIN jobs USING (id) WHERE typeof(body) = 'blob' "
                # By the clock only what the log has not put in order yet.
                "ORDER BY arrival IS NULL, arrival, accepted"
            ).fetchall()
        )
        jobs = []
        for (body,) in rows:
            try:
                job = Job.from_bytes(body)
            except ValidationError as error:
                log.error("A job in the outbox is not readable and left alone: %s", error)
            else:
                jobs.append(job)
        return [job for job in jobs if job.id not in self._done]
