"""GET /jobs: the newer ComfyUI pages' view of queue and history."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from pydantic_core import from_json

from comfy_dist.frontend.answers import Refused, read_object, whole_number
from comfy_dist.frontend.context import context
from comfy_dist.frontend.prompts import cancel_all, id_list, rows_of
from comfy_dist.ledger import JobRow, JobState, stored

routes = web.RouteTableDef()

#: ComfyUI's words for a job's state.
STATUS = {
    JobState.PENDING: "pending",
    JobState.RUNNING: "in_progress",
    JobState.FINISHED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}
_STATES = {status: state for state, status in STATUS.items()}
_ORDER = {"created_at": "created_at", "execution_duration": "ended_at - started_at"}
_PICTURES = ("images", "gifs", "video", "audio", "3d")
MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class _Query:
    states: tuple[str, ...]
    workflow_id: str | None
    order: str
    descending: bool
    limit: int | None
    offset: int


@routes.get("/jobs")
async def get_jobs(request: web.Request) -> web.Response:
    query = _parse(request)
    await context(request).ledger.settled()
    jobs, total = await context(request).ledger.read(lambda c: _select(c, query))
    limit = query.limit if query.limit is not None else total
    page = {
        "offset": query.offset,
        "limit": query.limit,
        "total": total,
        "has_more": query.offset + limit < total,
    }
    return web.json_response({"jobs": jobs, "pagination": page})


@routes.get("/jobs/{job_id}")
async def get_job(request: web.Request) -> web.Response:
    job_id = request.match_info["job_id"]
    await context(request).ledger.settled()
    job = await context(request).ledger.read(lambda c: _one(c, job_id))
    if job is None:
        raise Refused(404, f"There is no job {job_id}.", kind="not_found")
    return web.json_response(job)


def _parse(request: web.Request) -> _Query:
    query = request.query
    words = [word for word in query.get("status", "").split(",") if word]
    unknown = [word for word in words if word not in _STATES]
    if unknown:
        raise Refused(400, f"There is no status {unknown[0]!r}; use {', '.join(_STATES)}.")
    sort_by = query.get("sort_by", "created_at")
    if sort_by not in _ORDER:
        raise Refused(400, f"Jobs cannot be sorted by {sort_by!r}; use {', '.join(_ORDER)}.")
    sort_order = query.get("sort_order", "desc")
    if sort_order not in ("asc", "desc"):
        raise Refused(400, "sort_order is asc or desc.")
    limit, offset = whole_number(request, "limit"), whole_number(request, "offset") or 0
    if (limit is not None and not 1 <= limit <= MAX_LIMIT) or offset < 0:
        raise Refused(400, f"limit is 1 to {MAX_LIMIT}, offset at least 0.")
    return _Query(
        tuple(_STATES[word].value for word in words),
        query.get("workflow_id"),
        _ORDER[sort_by],
        sort_order == "desc",
        limit,
        offset,
    )


def _select(connection: sqlite3.Connection, query: _Query) -> tuple[list[dict[str, Any]], int]:
    where: list[str] = ["NOT hidden", "created_at > 0"]
    values: list[object] = []
    if query.states:
        where.append(f"state IN ({','.join('?' * len(query.states))})")
        values += query.states
    if query.workflow_id is not None:
        where.append("workflow_id = ?")
        values.append(query.workflow_id)
    condition = " AND ".join(where)
    (total,) = connection.execute(f"SELECT count(*) FROM jobs WHERE {condition}", values).fetchone()  # noqa: S608
    way = "DESC" if query.descending else "ASC"
    # Within one millisecond the numbers tell, which are finer; those of `front` are negative.
    order = f"{query.order} {way}, abs(number) {way}"
    rows = stored.rows(
        connection,
        f"WHERE {condition} ORDER BY {order} LIMIT ? OFFSET ?",
        (*values, query.limit or -1, query.offset),
    )
    return [_summary(row, *_bodies(connection, row.id)) for row in rows], total


def _one(connection: sqlite3.Connection, job_id: str) -> dict[str, Any] | None:
    row = next(iter(stored.rows(connection, "WHERE id = ? AND NOT hidden", (job_id,))), None)
    if row is None:
        return None
    item, result = _bodies(connection, job_id)
    _, _, prompt, extra_data, _ = item
    return {
        **_summary(row, item, result),
        "outputs": result.get("outputs", {}),
        "execution_status": result.get("status"),
        "workflow": {"prompt": prompt, "extra_data": extra_data},
    }


def _bodies(connection: sqlite3.Connection, job_id: str) -> tuple[list[Any], dict[str, Any]]:
    item, rest = stored.item(connection, job_id), stored.result(connection, job_id)
    return (
        from_json(item) if item else [0, job_id, {}, {}, []],
        from_json(b"{%b}" % rest) if rest else {},
    )


def _summary(row: JobRow, item: list[Any], result: dict[str, Any]) -> dict[str, Any]:
    outputs: dict[str, dict[str, Any]] = result.get("outputs", {})
    files = [
        {**entry, "nodeId": node, "mediaType": kind}
        for node, output in outputs.items()
        for kind, entries in output.items()
        if kind in _PICTURES and isinstance(entries, list)
        for entry in entries
        if isinstance(entry, dict) and "filename" in entry
    ]
    # Saved files before temporary ones, as a preview of the job.
    preview = next(iter(sorted(files, key=lambda entry: entry.get("type") != "output")), None)
    summary = {
        "id": row.id,
        "status": STATUS[row.state],
        "priority": item[0],
        "create_time": row.created_at,
        "execution_start_time": row.started_at or None,
        "execution_end_time": row.ended_at or None,
        "execution_error": _error(result),
        "outputs_count": len(files),
        "preview_output": preview,
        "workflow_id": stored.workflow_id(item[3]),
    }
    return {key: value for key, value in summary.items() if value is not None}


def _error(result: dict[str, Any]) -> dict[str, Any] | None:
    messages = (result.get("status") or {}).get("messages") or []
    return next((data for name, data in messages if name == "execution_error"), None)


@routes.post("/jobs/{job_id}/cancel")
async def cancel_job(request: web.Request) -> web.Response:
    """Cancel one job, waiting or running, as the page's queue panel does; one that has ended stays so."""
    return await _cancel(request, [request.match_info["job_id"]])


@routes.post("/jobs/cancel")
async def cancel_jobs(request: web.Request) -> web.Response:
    """The same for `{job_ids: [...]}`; unknown ids are ignored."""
    return await _cancel(request, id_list(await read_object(request), "job_ids"))


async def _cancel(request: web.Request, ids: list[str]) -> web.Response:
    ctx = context(request)
    await ctx.ledger.settled()
    rows = await rows_of(ctx, ids, lambda row: True)
    await cancel_all(ctx, rows)
    return web.json_response({"cancelled": [row.id for row in rows]})
