"""The tables, and what SQLite is told of the file they are in."""

from __future__ import annotations

import sqlite3

#: Raised with every change of the tables; a file of another version is set aside.
VERSION = 2

# `arrival` counts the jobs as they are first heard of: rows are added at the end of every table, and the few pages
# there take the writes of many jobs. `rank` counts entries of the history; what is not shown there has none.
_TABLES = """
CREATE TABLE jobs (
    arrival INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, state TEXT NOT NULL, number REAL NOT NULL,
    urgency INTEGER NOT NULL, client_id TEXT, user TEXT, workers TEXT NOT NULL, created_at INTEGER NOT NULL,
    started_at INTEGER NOT NULL, ended_at INTEGER NOT NULL, rank INTEGER, workflow_id TEXT,
    hidden INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX jobs_by_rank ON jobs (rank) WHERE rank IS NOT NULL;
CREATE INDEX jobs_live ON jobs (arrival) WHERE ended_at = 0;
CREATE TABLE submissions (arrival INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE results (arrival INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE outbox (id TEXT PRIMARY KEY, accepted INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE webhooks (
    job_id TEXT PRIMARY KEY, url TEXT NOT NULL, events TEXT NOT NULL, ours INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE deliveries (
    id TEXT PRIMARY KEY, job_id TEXT NOT NULL, url TEXT NOT NULL, host TEXT NOT NULL, body BLOB NOT NULL,
    attempt INTEGER NOT NULL, holder TEXT, due INTEGER NOT NULL
);
CREATE INDEX deliveries_by_host ON deliveries (host, due, id);
CREATE TABLE bookmark (one INTEGER PRIMARY KEY CHECK (one = 1), offset INTEGER, message_id TEXT);
"""

#: Came after the others, without which a file is as good: one that lacks it is given it.
_TRACES = "CREATE TABLE IF NOT EXISTS traces (arrival INTEGER PRIMARY KEY, body BLOB NOT NULL)"

#: The words of a job have two rows, 2 * arrival and 2 * arrival + 1: those of the prompt and those of its outputs.
_WORDS = "CREATE VIRTUAL TABLE words USING fts5(text, detail = none, columnsize = 0)"
#: Where SQLite was built without FTS5.
_PLAIN_WORDS = "CREATE TABLE words (text TEXT NOT NULL)"


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables where there are none. Raises sqlite3.DatabaseError for a file that is of no use."""
    # One process has the file: no locks and no shared memory for each transaction.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    # A killed process loses nothing; a power loss may take the last moments, which the event stream still has.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    # Overwriting what is deleted would write pages that need not be; what lies on pages written anyway is.
    connection.execute("PRAGMA secure_delete = FAST")
    # Sorting must not need a disk that may be full.
    connection.execute("PRAGMA temp_store = MEMORY")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        connection.executescript(_TABLES)
        connection.execute(_WORDS if has_fts5(connection) else _PLAIN_WORDS)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.commit()
    elif version != VERSION:
        raise sqlite3.DatabaseError(f"it has version {version} where {VERSION} is needed")
    connection.execute(_TRACES)


def has_fts5(connection: sqlite3.Connection) -> bool:
    """Whether this SQLite can index words."""
    (found,) = connection.execute("SELECT sqlite_compileoption_used('ENABLE_FTS5')").fetchone()
    return bool(found)


def indexes_words(connection: sqlite3.Connection) -> bool:
    """Whether this file's words are indexed: it may have been made by another SQLite."""
    (made,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'words'").fetchone()
    return "fts5" in made
