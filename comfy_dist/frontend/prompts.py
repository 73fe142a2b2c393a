"""Prompts, queue and history, as ComfyUI's clients know them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from comfy_dist.frontend.answers import Refused, read_object, whole_number
from comfy_dist.frontend.context import Context, context
from comfy_dist.frontend.submission import Invalid, submit
from comfy_dist.frontend.websocket import status
from comfy_dist.ledger import SETTLE_SECONDS, JobRow, JobState
from comfy_dist.messages import Cancelled, CancelledFact, Cleared, Command, Deleted

log = logging.getLogger(__name__)
routes = web.RouteTableDef()

#: Cancellations under way at the same time.
AT_ONCE = 200
#: Seconds in which a worker that has claimed a job will have said so, and a frontend that has taken one.
NEWS_SECONDS = 0.25


def raw_json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


def id_list(request: dict[str, Any], key: str) -> list[str]:
    ids = request.get(key) or []
    if not isinstance(ids, list) or not all(isinstance(id_, str) for id_ in ids):
        raise Refused(400, f"{key} must be a list of prompt ids.")
    return ids


@routes.get("/prompt")
async def get_prompt(request: web.Request) -> web.Response:
    ctx = context(request)
    await ctx.ledger.settled()
    return web.json_response(status(ctx)["status"])


@routes.post("/prompt")
async def post_prompt(request: web.Request) -> web.Response:
    try:
        number, prompt_id, node_errors = await submit(context(request), await read_object(request))
    except Invalid as invalid:
        return web.json_response({"error": invalid.error, "node_errors": invalid.node_errors}, status=400)
    whole = int(number) if number == int(number) else number
    return web.json_response({"prompt_id": prompt_id, "number": whole, "node_errors": node_errors})


@routes.get("/queue")
async def get_queue(request: web.Request) -> web.Response:
    ctx = context(request)
    await ctx.ledger.settled()
    return raw_json(await ctx.ledger.queue_json())


@routes.post("/queue")
async def post_queue(request: web.Request) -> web.Response:
    """Cancel pending prompts: all, or those named; unknown ids are ignored, as in ComfyUI."""
    ctx = context(request)
    body = await read_object(request)
    await ctx.ledger.settled()
    rows = list(ctx.ledger.pending) if body.get("clear") else []
    rows += await rows_of(ctx, id_list(body, "delete"), lambda row: row.state is JobState.PENDING)
    await cancel_all(ctx, rows)
    return web.Response()


@routes.post("/interrupt")
async def post_interrupt(request: web.Request) -> web.Response:
    """Stop the running prompt that is named; else this client's where it says who it is; else all."""
    ctx = context(request)
    body = await read_object(request) if request.can_read_body else {}
    await ctx.ledger.settled()

    def runs(row: JobRow) -> bool:
        return row.state is JobState.RUNNING or ctx.hub.has_begun(row.id)

    if prompt_id := body.get("prompt_id"):
        running = await rows_of(ctx, [prompt_id], runs) if isinstance(prompt_id, str) else []
    else:
        running = [row for row in (*ctx.ledger.running, *ctx.ledger.pending) if runs(row)]
        if client_id := body.get("client_id"):
            running = [row for row in running if row.client_id == client_id]
    await cancel_all(ctx, running)
    return web.Response()


async def rows_of(ctx: Context, ids: Sequence[str], fits: Callable[[JobRow], bool]) -> list[JobRow]:
    """The jobs of these ids that fit, after a moment where they do not yet.

    Who names one may know of it from another frontend, or from its progress, before its news has come here.
    """

    def fitting() -> list[JobRow]:
        return [row for id_ in ids if (row := ctx.ledger.live(id_)) is not None and fits(row)]

    if len(fitting()) < len(ids):
        await ctx.ledger.shows(lambda: len(fitting()) == len(ids), NEWS_SECONDS)
    return fitting()


async def cancel_all(ctx: Context, rows: Sequence[JobRow]) -> None:
    """A fact on the control stream for each; of those that no worker has begun, the event that ends them."""
    await _some_at_a_time(rows, lambda row: ctx.transport.append_fact(CancelledFact(job=row.id, by=ctx.id)))
    if all(row.state is JobState.RUNNING for row in rows):
        return
    # A worker that claimed it before says so, and how it ended. Nobody else does.
    await asyncio.sleep(NEWS_SECONDS)
    await ctx.ledger.settled()
    waiting = [
        row
        for old in rows
        if (row := ctx.ledger.live(old.id)) is not None
        and row.state is JobState.PENDING
        and not ctx.hub.has_begun(row.id)
    ]
    await _some_at_a_time(
        waiting,
        lambda row: ctx.transport.append_event(Cancelled(job_id=row.id, by=ctx.id, started=bool(row.workers))),
    )
    # Who asks for the queue next no longer finds them there.
    await ctx.ledger.shows(lambda: not any(ctx.ledger.live(row.id) for row in waiting), SETTLE_SECONDS)


async def _some_at_a_time(rows: Sequence[JobRow], send: Callable[[JobRow], Awaitable[None]]) -> None:
    """A queue may hold tens of thousands."""
    for start in range(0, len(rows), AT_ONCE):
        await asyncio.gather(*(send(row) for row in rows[start : start + AT_ONCE]))


@routes.post("/free")
async def post_free(request: web.Request) -> web.Response:
    body = await read_object(request) if request.can_read_body else {}
    arguments = {key: bool(body.get(key)) for key in ("unload_models", "free_memory")}
    await context(request).transport.send(Command(verb="free", arguments=arguments))
    return web.Response()


@routes.get("/history")
async def get_history(request: web.Request) -> web.Response:
    max_items, offset = whole_number(request, "max_items"), whole_number(request, "offset")
    return raw_json(await context(request).ledger.history_json(max_items, -1 if offset is None else offset))


@routes.get("/history/{prompt_id}")
async def get_history_entry(request: web.Request) -> web.Response:
    return raw_json(await context(request).ledger.entry_json(request.match_info["prompt_id"]))


@routes.post("/history")
async def post_history(request: web.Request) -> web.Response:
    ctx = context(request)
    body = await read_object(request)
    if body.get("clear"):
        await ctx.transport.append_event(Cleared())
    if ids := id_list(body, "delete"):
        await ctx.transport.append_event(Deleted(job_ids=tuple(ids)))
    return web.Response()
