"""How jobs stand in the tables, and what is put together from them."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from comfy_dist.ledger.fold import JobRow, JobState
from comfy_dist.messages import Ended, Finished, Submitted

COMPRESS_ABOVE = 4096

# NaN and infinities become null: they are no JSON, and a browser would refuse the whole answer for one of them.


def submission(event: Submitted) -> bytes:
    """ComfyUI's queue item: [number, id, prompt, extra_data, outputs]."""
    extra = event.extra_data if event.client_id is None else {**event.extra_data, "client_id": event.client_id}
    return to_json(
        [
            shown_number(event.number),
            event.job_id,
            event.prompt,
            {**extra, "create_time": event.at},
            event.outputs_to_execute,
        ],
        inf_nan_mode="null",
    )


def shown_number(number: float) -> float:
    """1 where it is 1.0."""
    return int(number) if number.is_integer() else number


def workflow_id(extra_data: dict[str, Any]) -> str | None:
    """The id that the page gives its workflows; clients put anything into extra_data."""
    metadata = extra_data.get("extra_pnginfo")
    workflow = metadata.get("workflow") if isinstance(metadata, dict) else None
    found = workflow.get("id") if isinstance(workflow, dict) else None
    return found if isinstance(found, str) else None


def result_of(event: Ended) -> bytes:
    """The rest of ComfyUI's history entry: "outputs": ..., "status": ..., "meta": ... (no braces)."""
    finished = isinstance(event, Finished)
    status = {"status_str": "success" if finished else "error", "completed": finished, "messages": event.messages}
    return to_json({"outputs": event.outputs, "status": status, "meta": event.meta}, inf_nan_mode="null")[1:-1]


def pack(body: bytes) -> bytes:
    """zlib's format begins with x (0x78), JSON with another character."""
    return zlib.compress(body, 1) if len(body) > COMPRESS_ABOVE else body


def unpack(body: bytes) -> bytes:
    if body[:1] != b"x":
        return body
    try:
        return zlib.decompress(body)
    except zlib.error as error:
        raise sqlite3.DatabaseError(f"a body in it is damaged: {error}") from error


class Bodies(NamedTuple):
    """What is stored of a job beside its row, packed."""

    submission: bytes | None
    result: bytes | None


def hidden(connection: sqlite3.Connection, row: JobRow) -> bool:
    """Whether the job was deleted from the history."""
    return bool(connection.execute("SELECT hidden FROM jobs WHERE id = ?", (row.id,)).fetchone()[0])


def bodies(connection: sqlite3.Connection, row: JobRow) -> Bodies:
    return Bodies(
        *(
            found[0] if (found := connection.execute(statement, (row.arrival,)).fetchone()) else None
            for statement in (
                "SELECT body FROM submissions WHERE arrival = ?",
                "SELECT body FROM results WHERE arrival = ?",
            )
        )
    )


def item_of(row: JobRow, bodies: Bodies) -> bytes:
    """ComfyUI's queue item."""
    if bodies.submission is None:
        # Of what was submitted before the log begins, only the id is known.
        return to_json([shown_number(row.number), row.id, {}, {}, []])
    return unpack(bodies.submission)


def result_in(bodies: Bodies) -> bytes | None:
    """The rest of the history entry, without braces."""
    return None if bodies.result is None else unpack(bodies.result)


def entry_of(row: JobRow, bodies: Bodies) -> bytes | None:
    """ComfyUI's history entry with its key; None where it was taken out a moment ago."""
    if (rest := result_in(bodies)) is None:
        return None
    return b'%b:{"prompt":%b,%b}' % (to_json(row.id), item_of(row, bodies), rest)


def trace_of(connection: sqlite3.Connection, row: JobRow) -> list[Any]:
    """The spans of its timeline; none where it had nothing to tell."""
    found = connection.execute("SELECT body FROM traces WHERE arrival = ?", (row.arrival,)).fetchone()
    return from_json(unpack(found[0])) if found else []


def workflow_of(connection: sqlite3.Connection, row: JobRow) -> str | None:
    """The id of its workflow."""
    (found,) = connection.execute("SELECT workflow_id FROM jobs WHERE arrival = ?", (row.arrival,)).fetchone()
    return None if found is None else str(found)


COLUMNS = (
    "arrival",
    "id",
    "state",
    "number",
    "urgency",
    "client_id",
    "user",
    "workers",
    "created_at",
    "started_at",
    "ended_at",
    "rank",
)

_PUT = (
    f"INSERT INTO jobs ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "  # noqa: S608
    f"ON CONFLICT (arrival) DO UPDATE SET {', '.join(f'{each} = excluded.{each}' for each in COLUMNS[1:-1])}, "
    # What was taken out of the history does not come back.
    "rank = iif(hidden, NULL, excluded.rank)"
)


def put(connection: sqlite3.Connection, row: JobRow) -> None:
    values = (getattr(row, name) for name in COLUMNS)
    connection.execute(_PUT, [json.dumps(value) if isinstance(value, tuple) else value for value in values])


def find(connection: sqlite3.Connection, job_id: str) -> JobRow | None:
    return next(iter(rows(connection, "WHERE id = ?", (job_id,))), None)


def rows(connection: sqlite3.Connection, condition: str, values: Sequence[Any] = ()) -> list[JobRow]:
    """The jobs that `condition` (SQL of ours, with ? for the values) selects."""
    found = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM jobs {condition}", values)  # noqa: S608
    return [_row(values) for values in found]


def _row(values: Sequence[Any]) -> JobRow:
    named = dict(zip(COLUMNS, values, strict=True))
    return JobRow(**{**named, "state": JobState(named["state"]), "workers": tuple(json.loads(named["workers"]))})
