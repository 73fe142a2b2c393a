"""One SQLite file, used from one thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from comfy_dist.errors import ComfyDistError
from comfy_dist.ledger import schema

log = logging.getLogger(__name__)

T = TypeVar("T")


class Unusable(ComfyDistError):
    """The file cannot be read or written now: no space, no right, a disk that fails. It may be again."""


class DiskFull(Unusable):
    """There is no space to write to it."""


class Renewed(ComfyDistError):
    """The file was damaged or gone, and has just been made anew: what it held is read from the event log again."""


class Database:
    """Runs functions of the connection, one after another, each in a transaction, off the event loop.

    A file that turns out to be damaged is set aside and made anew, with the outbox as far as it can be read. Who
    met the damage gets Renewed; `on_renewed` is called before that, on the database's thread.
    """

    def __init__(self, path: Path, on_renewed: Callable[[], None]) -> None:
        self._path = path
        self._on_renewed = on_renewed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._connection: sqlite3.Connection | None = None
        #: Device and number of the open file.
        self._file: tuple[int, int] | None = None

    async def open(self) -> None:
        """Open or make the file; one that is damaged or of another version is set aside, and said so."""
        await self._off_the_loop(self._open)

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Raises Unusable and Renewed."""
        return await self._off_the_loop(lambda: self._transact(function))

    async def run_again(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """As `run`, for what a file that was just made anew has too: the outbox."""
        try:
            return await self.run(function)
        except Renewed:
            return await self.run(function)

    async def renew(self, reason: str) -> None:
        """Somebody else found that it is damaged. Raises Renewed."""
        await self._off_the_loop(lambda: self._renew(reason))
        raise self._renewed()

    async def look(self) -> None:
        """Make the file anew where it was deleted or replaced under us: what is written now would be lost."""
        await self._off_the_loop(self._look)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._off_the_loop(connection.close)
        self._thread.shutdown()

    async def _off_the_loop(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def _transact(self, function: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            # It could not be made anew the last time.
            self._open()
        try:
            with self._live() as connection:
                return function(connection)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname == "SQLITE_ERROR":
                # A statement of ours that is wrong.
                raise
            raise self._unusable(error) from error
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._renew(str(error))
            raise self._renewed() from error

    def _live(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection

    def _look(self) -> None:
        try:
            there = self._path.stat()
            same = (there.st_dev, there.st_ino) == self._file
        except FileNotFoundError:
            same = False
        except OSError as error:
            raise self._unusable(error) from error
        if not same:
            self._renew("its file was deleted or replaced")
            raise self._renewed()

    def _unusable(self, error: Exception) -> Unusable:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
            return DiskFull(f"The ledger {self._path} cannot be written: the disk is full. Make space there.")
        return Unusable(f"The ledger {self._path} cannot be used: {error}.")

    def _renewed(self) -> Renewed:
        return Renewed(
            f"The ledger {self._path} could not be used and is being built again from the event log; "
            "ask again in a moment."
        )

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connect()
        except (sqlite3.OperationalError, OSError) as error:
            # Locked, not writable, no space: nothing that a new file would mend.
            raise self._unusable(error) from error
        except sqlite3.DatabaseError as error:
            self._renew(str(error))

    def _renew(self, reason: str) -> None:
        connection, self._connection = self._connection, None
        rest: list[tuple[str, bytes]] = []
        if connection is None:
            with contextlib.suppress(sqlite3.Error):
                connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                rest = connection.execute("SELECT id, body FROM outbox").fetchall()
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        aside = self._set_aside()
        log.warning(
            "The ledger %s cannot be used (%s)%s; it is made anew, with what the event log still has.",
            self._path,
            reason,
            f" and is kept as {aside}" if aside else "",
        )
        try:
            self._connect()
            with self._live() as made:
                ordered = ((id_, place, body) for place, (id_, body) in enumerate(rest))
                made.executemany("INSERT OR REPLACE INTO outbox VALUES (?, ?, ?)", ordered)
        except (sqlite3.OperationalError, OSError) as error:
            raise self._unusable(error) from error
        finally:
            self._on_renewed()

    def _set_aside(self) -> Path | None:
        """Where the file is now; None where there was none."""
        aside = self._path.with_suffix(".damaged")
        for number in itertools.count(2):
            if not aside.exists():
                break
            aside = self._path.with_suffix(f".damaged-{number}")
        there = self._path.exists()
        if there:
            self._path.replace(aside)
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        return aside if there else None

    def _connect(self) -> None:
        new = not self._path.exists()
        connection = sqlite3.connect(self._path, check_same_thread=False)
        try:
            if new:
                # Prompts may hold private text.
                self._path.chmod(0o600)
                log.info("A new ledger is made at %s, and filled with what the event log has.", self._path)
            self._check_length(connection)
            schema.prepare(connection)
        except BaseException:
            connection.close()
            raise
        there = self._path.stat()
        self._file = (there.st_dev, there.st_ino)
        self._connection = connection

    def _check_length(self, connection: sqlite3.Connection) -> None:
        """A file that was cut off: SQLite would notice at its first look beyond the end.

        Anything else that may be wrong is found when it is met; to look for it here would mean to read all.
        """
        length = self._path.stat().st_size
        if self._path.with_name(f"{self._path.name}-wal").exists():
            return
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        if length < pages * size:
            raise sqlite3.DatabaseError(f"it is cut off: {length} of {pages * size} bytes are there")


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether it says that the file is not what was written: SQLITE_CORRUPT, SQLITE_NOTADB, rows at odds."""
    # Other subclasses are other troubles: a full disk, a bug of ours.
    return type(error) in (sqlite3.DatabaseError, sqlite3.IntegrityError)
