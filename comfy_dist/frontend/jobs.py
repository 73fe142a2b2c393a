"""GET /jobs: the newer ComfyUI pages' view of queue and history."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from pydantic_core import from_json

from comfy_dist.frontend.answers import Refused, read_object, whole_number
from comfy_dist.frontend.context import context
from comfy_dist.frontend.identity import identity_of
from comfy_dist.frontend.prompts import cancel_all, id_list, rows_of
from comfy_dist.frontend.searching import STATUS, search_of
from comfy_dist.ledger import JobRow, Search, stored

routes = web.RouteTableDef()

# Jobs are numbered as they come: that order is the same on every frontend, whatever the clocks say.
_ORDER = {
    "created_at": ("arrival",),
    "execution_duration": ("ended_at - started_at", "arrival"),
    # What runs, then what waits, in the order in which it will be taken: JobRow.turn.
    "turn": ("state <> 'running'", "urgency", "started_at = 0", "arrival"),
}
_PICTURES = ("images", "gifs", "video", "audio", "3d")
MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class _Query:
    search: Search
    #: SQL expressions.
    order: tuple[str, ...]
    descending: bool
    limit: int
    offset: int


@routes.get("/jobs")
async def get_jobs(request: web.Request) -> web.Response:
    query = _parse(request)
    await context(request).ledger.settled()
    jobs, total = await context(request).ledger.read(lambda c: _select(c, query))
    page = {
        "offset": query.offset,
        "limit": query.limit,
        "total": total,
        "has_more": query.offset + query.limit < total,
    }
    return web.json_response({"jobs": jobs, "pagination": page})


@routes.get("/jobs/{job_id}")
async def get_job(request: web.Request) -> web.Response:
    job_id, user = request.match_info["job_id"], identity_of(request).only
    await context(request).ledger.settled()
    job = await context(request).ledger.read(lambda c: _one(c, job_id, user))
    if job is None:
        raise Refused(404, f"There is no job {job_id}.", kind="not_found")
    return web.json_response(job)


def _parse(request: web.Request) -> _Query:
    query = request.query
    search = search_of(request)
    sort_by = query.get("sort_by", "created_at")
    if sort_by not in _ORDER:
        raise Refused(400, f"Jobs cannot be sorted by {sort_by!r}; use {', '.join(_ORDER)}.")
    sort_order = query.get("sort_order", "desc")
    if sort_order not in ("asc", "desc"):
        raise Refused(400, "sort_order is asc or desc.")
    limit, offset = whole_number(request, "limit"), whole_number(request, "offset") or 0
    limit = MAX_LIMIT if limit is None else limit
    if not 1 <= limit <= MAX_LIMIT or offset < 0:
        raise Refused(400, f"limit is 1 to {MAX_LIMIT}, offset at least 0.")
    return _Query(search, _ORDER[sort_by], sort_order == "desc", limit, offset)


def _select(connection: sqlite3.Connection, query: _Query) -> tuple[list[dict[str, Any]], int]:
    condition, values = query.search.condition(connection)
    condition = f"NOT hidden AND created_at > 0 AND {condition}"
    (total,) = connection.execute(f"SELECT count(*) FROM jobs WHERE {condition}", values).fetchone()  # noqa: S608
    way = "DESC" if query.descending else "ASC"
    order = ", ".join(f"{each} {way}" for each in query.order)
    found = stored.rows(
        connection,
        f"WHERE {condition} ORDER BY {order} LIMIT ? OFFSET ?",
        (*values, query.limit, query.offset),
    )
    return [_summary(connection, row, _result(connection, row)) for row in found], total


def _one(connection: sqlite3.Connection, job_id: str, user: str | None) -> dict[str, Any] | None:
    row = next(iter(stored.rows(connection, "WHERE id = ? AND NOT hidden", (job_id,))), None)
    if row is None or user not in (None, row.user):
        return None
    result = _result(connection, row)
    _, _, prompt, extra_data, _ = from_json(stored.item_of(row, stored.bodies(connection, row)))
    return {
        **_summary(connection, row, result),
        "outputs": result.get("outputs", {}),
        "execution_status": result.get("status"),
        "trace": stored.trace_of(connection, row),
        "workflow": {"prompt": prompt, "extra_data": extra_data},
    }


def _result(connection: sqlite3.Connection, row: JobRow) -> dict[str, Any]:
    rest = stored.result_in(stored.bodies(connection, row))
    return from_json(b"{%b}" % rest) if rest else {}


def _summary(connection: sqlite3.Connection, row: JobRow, result: dict[str, Any]) -> dict[str, Any]:
    """Without a look into the prompt, which may be long."""
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
        "priority": stored.shown_number(row.number),
        "create_time": row.created_at,
        "execution_start_time": row.started_at or None,
        "execution_end_time": row.ended_at or None,
        "execution_error": _error(result),
        "outputs_count": len(files),
        "preview_output": preview,
        "workflow_id": stored.workflow_of(connection, row),
        "user": row.user,
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
    """The same for `{job_ids: [...]}`; unknown ids, and others', are ignored."""
    return await _cancel(request, id_list(await read_object(request), "job_ids"))


async def _cancel(request: web.Request, ids: list[str]) -> web.Response:
    ctx = context(request)
    await ctx.ledger.settled()
    sees = identity_of(request).sees
    rows = await rows_of(ctx, ids, lambda row: sees(row.user))
    await cancel_all(ctx, rows)
    return web.json_response({"cancelled": [row.id for row in rows]})
