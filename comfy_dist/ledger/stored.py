"""How jobs stand in the tables, and what is put together from them."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json

from comfy_dist.ledger.fold import JobRow, JobState
from comfy_dist.messages import Ended, Finished, Submitted

COMPRESS_ABOVE = 4096

# NaN and infinities become null: they are no JSON, and a browser would refuse the whole answer for one of them.


def submission(event: Submitted) -> bytes:
    """ComfyUI's queue item: [number, id, prompt, extra_data, outputs]."""
    number = int(event.number) if event.number.is_integer() else event.number
    extra = event.extra_data if event.client_id is None else {**event.extra_data, "client_id": event.client_id}
    return to_json(
        [number, event.job_id, event.prompt, {**extra, "create_time": event.at}, event.outputs_to_execute],
        inf_nan_mode="null",
    )


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
    return zlib.decompress(body) if body[:1] == b"x" else body


def item(connection: sqlite3.Connection, job_id: str) -> bytes | None:
    row = connection.execute("SELECT body FROM submissions WHERE id = ?", (job_id,)).fetchone()
    return unpack(row[0]) if row else None


def result(connection: sqlite3.Connection, job_id: str) -> bytes | None:
    """The rest of the history entry, without braces."""
    row = connection.execute("SELECT body FROM results WHERE id = ?", (job_id,)).fetchone()
    return unpack(row[0]) if row else None


def entry(connection: sqlite3.Connection, job_id: str) -> bytes:
    rest = result(connection, job_id) or b'"outputs":{},"status":null,"meta":{}'
    prompt = item(connection, job_id) or to_json([0, job_id, {}, {}, []])
    return b'%b:{"prompt":%b,%b}' % (to_json(job_id), prompt, rest)


COLUMNS = (
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
)


def columns(row: JobRow) -> tuple[Any, ...]:
    """The row's values in the order of COLUMNS."""
    values = (getattr(row, name) for name in COLUMNS)
    return tuple(json.dumps(value) if isinstance(value, tuple) else value for value in values)


def find(connection: sqlite3.Connection, job_id: str) -> JobRow | None:
    return next(iter(rows(connection, "WHERE id = ?", (job_id,))), None)


def rows(connection: sqlite3.Connection, condition: str, values: Sequence[Any] = ()) -> list[JobRow]:
    """The jobs that `condition` (SQL of ours, with ? for the values) selects."""
    found = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM jobs {condition}", values)  # noqa: S608
    return [_row(values) for values in found]


def _row(values: Sequence[Any]) -> JobRow:
    named = dict(zip(COLUMNS, values, strict=True))
    return JobRow(**{**named, "state": JobState(named["state"]), "workers": tuple(json.loads(named["workers"]))})
