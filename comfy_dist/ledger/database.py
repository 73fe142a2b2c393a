"""One SQLite file, used from one thread of its own."""

from __future__ import annotations

import asyncio
import itertools
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from comfy_dist.errors import ComfyDistError

log = logging.getLogger(__name__)

#: Raised with every change of the tables; a file of another version is set aside.
VERSION = 2

SCHEMA = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, number REAL NOT NULL, urgency INTEGER NOT NULL, client_id TEXT,
    user TEXT, workers TEXT NOT NULL, created_at INTEGER NOT NULL, started_at INTEGER NOT NULL,
    ended_at INTEGER NOT NULL,
    rank INTEGER, workflow_id TEXT, listed INTEGER NOT NULL DEFAULT 0, hidden INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE UNIQUE INDEX jobs_by_rank ON jobs (rank) WHERE rank IS NOT NULL;
CREATE INDEX jobs_live ON jobs (urgency, number) WHERE ended_at = 0;
CREATE TABLE submissions (id TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE results (id TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE outbox (id TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE webhooks (
    job_id TEXT PRIMARY KEY, url TEXT NOT NULL, events TEXT NOT NULL, ours INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE deliveries (
    id TEXT PRIMARY KEY, job_id TEXT NOT NULL, url TEXT NOT NULL, host TEXT NOT NULL, body BLOB NOT NULL,
    attempt INTEGER NOT NULL, holder TEXT, due INTEGER NOT NULL
);
CREATE INDEX deliveries_due ON deliveries (due, host, id);
CREATE TABLE bookmark (one INTEGER PRIMARY KEY CHECK (one = 1), offset INTEGER, message_id TEXT);
"""

T = TypeVar("T")


class Database:
    """Runs functions of the connection, one after another, each in a transaction, off the event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open or make the file; one that is damaged or of another version is set aside, and said so."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        return await self.start(function)

    def start(self, function: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Without waiting; what is run later finds what it has written."""
        return asyncio.get_running_loop().run_in_executor(self._thread, self._transact, function)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, connection.close)
        self._thread.shutdown()

    def _transact(self, function: Callable[[sqlite3.Connection], T]) -> T:
        assert self._connection is not None
        with self._connection:
            return function(self._connection)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._connection = self._connect()
        except sqlite3.OperationalError as error:
            # Locked, not writable, no space: nothing that a new file would mend.
            raise ComfyDistError(f"The ledger {self._path} cannot be used: {error}.") from error
        except sqlite3.DatabaseError as error:
            aside = self._path.with_suffix(".damaged")
            for number in itertools.count(2):
                if not aside.exists():
                    break
                aside = self._path.with_suffix(f".damaged-{number}")
            log.warning(
                "The ledger %s cannot be used (%s); it is kept as %s and made anew.", self._path, error, aside
            )
            self._path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            self._connection = self._connect()

    def _connect(self) -> sqlite3.Connection:
        new = not self._path.exists()
        connection = sqlite3.connect(self._path, check_same_thread=False)
        try:
            if new:
                # Prompts may hold private text.
                self._path.chmod(0o600)
            # A killed process loses nothing; a power loss may take the last moments, which the event
            # stream still has.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.executescript(SCHEMA)
                connection.execute(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise sqlite3.DatabaseError(f"it has version {version} where {VERSION} is needed")
            # Found later, a damaged page would stop the frontend at every start (400 MB take 0.3 s).
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(f"it is damaged: {verdict}")
        except BaseException:
            connection.close()
            raise
        return connection
