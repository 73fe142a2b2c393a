"""The cluster as one frontend sees it, and what an operator does with its workers."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from pydantic_core import to_json

from comfy_dist.frontend import pausing
from comfy_dist.frontend.answers import MAX_ID, Refused, read_object, whole_number
from comfy_dist.frontend.context import Context, context
from comfy_dist.frontend.identity import identity_of, require_admin, without_sign_in
from comfy_dist.messages import Announcement, Command, CurrentJob, Verb

routes = web.RouteTableDef()

#: Seconds that a worker has to answer a command.
ANSWER_SECONDS = 10.0
#: Lines of a worker's log that are shown where nobody says how many.
LINES = 200

#: What POST /distributed/workers/{id} may ask for: all but `enabled` and `free` only as true.
_DEEDS: dict[str, Verb] = {"interrupt": "interrupt", "restart_engine": "restart_engine", "drain": "drain"}
_FREE = ("unload_models", "free_memory")


@routes.get("/distributed/workers")
async def get_workers(request: web.Request) -> web.Response:
    """Every live worker as announced, with the jobs it runs, of those that one may see, and their progress."""
    ctx, sees = context(request), identity_of(request).sees

    def shown(job: CurrentJob) -> bool:
        row = ctx.ledger.live(job.root or job.id)
        return sees(row.user if row else None)

    workers = [
        worker.model_copy(update={"jobs": tuple(filter(shown, worker.jobs))}) for worker in ctx.registry.workers
    ]
    return web.Response(body=to_json({"workers": workers}), content_type="application/json")


@routes.post("/distributed/workers/{worker}")
async def post_worker(request: web.Request) -> web.Response:
    """Pause, resume, free, interrupt, restart or drain one worker; each deed's result under its name."""
    require_admin(request)
    ctx = context(request)
    body = await read_object(request)
    _check(body)
    asked = request.match_info["worker"]
    worker = _one(ctx, asked)
    answer: dict[str, Any] = {"worker": worker.id, "name": worker.name}
    if (enabled := body.get("enabled")) is not None:
        if enabled:
            await pausing.resume(ctx, [worker])
        else:
            await pausing.pause(ctx, **_target(worker, asked))
        answer["enabled"] = enabled
    if (wanted := body.get("free")) is not None:
        arguments = {key: True if wanted is True else bool(wanted.get(key)) for key in _FREE}
        answer["free"] = await _ask(ctx, worker, "free", arguments)
    for key, verb in _DEEDS.items():
        if key in body:
            answer[key] = await _ask(ctx, worker, verb, {"by": ctx.id})
    return web.json_response(answer)


@routes.get("/distributed/workers/{worker}/log")
async def get_log(request: web.Request) -> web.Response:
    """The last `lines` of the worker's log, without what looks like a secret."""
    require_admin(request)
    ctx = context(request)
    lines = whole_number(request, "lines")
    worker = _one(ctx, request.match_info["worker"])
    answer = await _ask(ctx, worker, "log", {"lines": LINES if lines is None else lines})
    return web.json_response({"worker": worker.id, "name": worker.name, "lines": answer.get("lines", [])})


@routes.post("/distributed/pause")
async def post_pause(request: web.Request) -> web.Response:
    """Let the whole cluster, or the worker that is named, finish what it has and take no more."""
    require_admin(request)
    ctx = context(request)
    asked = await _whom(request)
    if asked is None:
        await pausing.pause(ctx)
        return web.json_response({"paused": [worker.id for worker in ctx.registry.workers]})
    workers = _named(ctx, asked)
    if not workers:
        raise _unknown(asked)
    await pausing.pause(ctx, **_target(workers[0], asked))
    return web.json_response({"paused": [worker.id for worker in workers]})


@routes.post("/distributed/resume")
async def post_resume(request: web.Request) -> web.Response:
    """The end of that pause. A name need not be a live worker's: one that was paused may be away."""
    require_admin(request)
    ctx = context(request)
    asked = await _whom(request)
    if asked is None:
        await pausing.resume_all(ctx)
        return web.json_response({"resumed": [worker.id for worker in ctx.registry.workers]})
    workers = _named(ctx, asked)
    by_id = any(worker.id == asked for worker in workers)
    await pausing.resume(ctx, workers, name=None if by_id else asked)
    return web.json_response({"resumed": [worker.id for worker in workers]})


@routes.get("/health")
@without_sign_in
async def health(request: web.Request) -> web.Response:
    """Whether this frontend can accept prompts: 200, or 503 while the broker is away."""
    ctx = context(request)
    connected = ctx.transport.connected
    body = {
        "healthy": connected,
        "broker": connected,
        "workers": len(ctx.registry.workers),
        "frontend": ctx.id,
        "unreadable": ctx.transport.unreadable.counts,
    }
    return web.json_response(body, status=200 if connected else 503)


def _named(ctx: Context, asked: str) -> list[Announcement]:
    """The live worker of that id, else those of that name."""
    workers = ctx.registry.workers
    return [each for each in workers if each.id == asked] or [each for each in workers if each.name == asked]


def _one(ctx: Context, asked: str) -> Announcement:
    match _named(ctx, asked):
        case []:
            raise _unknown(asked)
        case [worker]:
            return worker
        case several:
            ids = ", ".join(worker.id for worker in several)
            raise Refused(409, f"{len(several)} workers have the name {asked}; say which by its id: {ids}.")


def _unknown(asked: str) -> Refused:
    sentence = f"No live worker has the id or name {asked[:MAX_ID]!r}; GET /distributed/workers lists them."
    return Refused(404, sentence, kind="unknown_worker")


def _target(worker: Announcement, asked: str) -> dict[str, str]:
    """A pause by id is one of this start of the worker; one by name holds over its restart."""
    return {"worker": worker.id} if asked == worker.id else {"name": worker.name}


async def _whom(request: web.Request) -> str | None:
    body = await read_object(request) if request.can_read_body else {}
    if body.keys() - {"worker"}:
        # One that is misspelt is not to pause everyone.
        raise Refused(400, "The body may have worker, an id or a name; without it the whole cluster is meant.")
    worker = body.get("worker")
    if worker is not None and not (isinstance(worker, str) and 0 < len(worker) <= MAX_ID and worker.isprintable()):
        raise Refused(400, f"worker must be a worker's id or name, a text of at most {MAX_ID} characters.")
    return worker


def _check(body: dict[str, Any]) -> None:
    known = ("enabled", "free", *_DEEDS)
    if not body or body.keys() - set(known):
        raise Refused(400, f"What is to be done with the worker? The body may have {', '.join(known)}.")
    if not isinstance(body.get("enabled", True), bool):
        raise Refused(400, "enabled must be true or false.")
    free = body.get("free", True)
    if free is not True and not (
        isinstance(free, dict)
        and not free.keys() - set(_FREE)
        and all(type(each) is bool for each in free.values())
    ):
        raise Refused(400, 'free must be true, or {"unload_models": true|false, "free_memory": true|false}.')
    for key in _DEEDS:
        if body.get(key, True) is not True:
            raise Refused(400, f"{key} can only be true: it cannot be taken back.")


async def _ask(ctx: Context, worker: Announcement, verb: Verb, arguments: dict[str, Any]) -> dict[str, Any]:
    """The worker's answer. Raises Refused where it has none."""
    reply = await ctx.transport.ask(Command(verb=verb, worker=worker.id, arguments=arguments), ANSWER_SECONDS)
    if reply is None:
        raise Refused(
            504,
            f"Worker {worker.name} did not answer within {ANSWER_SECONDS:g} s; it may be stopped or cut off. "
            "What was asked may happen yet, within 30 s.",
            kind="worker_silent",
        )
    if "error" in reply.result:
        raise Refused(500, f"Worker {worker.name} could not do it: {reply.result['error']}", kind="worker_failed")
    return reply.result
