"""Prompts, queue and history, as ComfyUI's clients know them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from comfy_dist.errors import BrokerUnavailable
from comfy_dist.frontend.answers import Refused, read_object, whole_number
from comfy_dist.frontend.context import Context, context
from comfy_dist.frontend.identity import Identity, identity_of, require_admin
from comfy_dist.frontend.searching import search_of
from comfy_dist.frontend.submission import submit
from comfy_dist.frontend.websocket import status
from comfy_dist.ledger import SETTLE_SECONDS, JobRow, JobState
from comfy_dist.messages import Cancelled, CancelledFact, Cleared, Command, Deleted

log = logging.getLogger(__name__)
routes = web.RouteTableDef()

#: Cancellations under way at the same time.
AT_ONCE = 200
#: Bytes up to which an answer is put together before it is sent.
WHOLE = 8_000_000
#: Seconds in which a worker that has claimed a job will have said so, and a frontend that has taken one.
NEWS_SECONDS = 0.25


def raw_json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


async def streamed(request: web.Request, slices: AsyncIterator[bytes]) -> web.StreamResponse:
    """JSON as it comes from the ledger; what is short, with its length."""
    head: list[bytes] = []
    async for slice_ in slices:
        head.append(slice_)
        if sum(map(len, head)) > WHOLE:
            break
    else:
        return raw_json(b"".join(head))
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b"".join(head))
    async for slice_ in slices:
        await response.write(slice_)
    await response.write_eof()
    return response


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
    body = await read_object(request)
    accepted = await submit(context(request), body, identity_of(request))
    return web.json_response(accepted.as_json())


@routes.get("/queue")
async def get_queue(request: web.Request) -> web.StreamResponse:
    ctx = context(request)
    await ctx.ledger.settled()
    return await streamed(request, ctx.ledger.queue(identity_of(request).only))


@routes.post("/queue")
async def post_queue(request: web.Request) -> web.Response:
    """Cancel pending prompts of one's own: all, or those named; other ids are ignored, as in ComfyUI."""
    ctx = context(request)
    body = await read_object(request)
    await ctx.ledger.settled()
    sees = identity_of(request).sees

    def waits(row: JobRow) -> bool:
        return row.state is JobState.PENDING and sees(row.user)

    rows = [row for row in ctx.ledger.pending if waits(row)] if body.get("clear") else []
    rows += await rows_of(ctx, id_list(body, "delete"), waits)
    await cancel_all(ctx, rows)
    return web.Response()


@routes.post("/interrupt")
async def post_interrupt(request: web.Request) -> web.Response:
    """Stop the running prompt that is named; else this client's where it says who it is; else all of one's own."""
    ctx = context(request)
    body = await read_object(request) if request.can_read_body else {}
    await ctx.ledger.settled()

    sees = identity_of(request).sees

    def runs(row: JobRow) -> bool:
        return (row.state is JobState.RUNNING or ctx.hub.has_begun(row.id)) and sees(row.user)

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
    require_admin(request)
    body = await read_object(request) if request.can_read_body else {}
    arguments = {key: bool(body.get(key)) for key in ("unload_models", "free_memory")}
    await context(request).transport.send(Command(verb="free", arguments=arguments))
    return web.Response()


@routes.get("/history")
async def get_history(request: web.Request) -> web.StreamResponse:
    max_items, offset = whole_number(request, "max_items"), whole_number(request, "offset")
    entries = context(request).ledger.history(max_items, -1 if offset is None else offset, search_of(request))
    return await streamed(request, entries)


@routes.get("/history/{prompt_id}")
async def get_history_entry(request: web.Request) -> web.Response:
    prompt_id = request.match_info["prompt_id"]
    return raw_json(await context(request).ledger.entry_json(prompt_id, identity_of(request).only))


@routes.post("/history")
async def post_history(request: web.Request) -> web.Response:
    ctx = context(request)
    body = await read_object(request)
    identity = identity_of(request)
    if body.get("clear"):
        await _change_history(ctx, Cleared(user=identity.only))
    if ids := await _own(ctx, id_list(body, "delete"), identity):
        await _change_history(ctx, Deleted(job_ids=tuple(ids)))
    return web.Response()


async def _own(ctx: Context, ids: Sequence[str], identity: Identity) -> list[str]:
    if identity.admin:
        return list(ids)
    return [id_ for id_ in ids if (row := await ctx.ledger.find(id_)) is not None and identity.sees(row.user)]


async def _change_history(ctx: Context, event: Cleared | Deleted) -> None:
    """When it returns, whoever asks here finds the history as it was asked to be."""
    ctx.ledger.expect(event)
    try:
        await ctx.transport.append_event(event)
    except BrokerUnavailable:
        ctx.ledger.forget(event)
        raise
    await ctx.ledger.settled()
