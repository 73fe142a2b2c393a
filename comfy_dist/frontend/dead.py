"""The dead letters, through any frontend: what was given up, or could not be read."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, Literal

from aiohttp import web

from comfy_dist.errors import ComfyDistError
from comfy_dist.frontend.answers import MAX_ID, Refused, read_object
from comfy_dist.frontend.context import Context, context
from comfy_dist.frontend.identity import Identity, require_admin
from comfy_dist.frontend.submission import submit
from comfy_dist.messages import Job
from comfy_dist.transport import DeadLetter, HeldLetter

routes = web.RouteTableDef()

#: A letter's prompt has the same new id whoever retries it, so that it becomes one prompt whatever fails between.
_AGAIN = uuid.UUID("6f0c5c54-9a55-4d0b-8f9b-2f1a6d6f4a0e")
#: Characters shown of a message that cannot be read.
_EXCERPT = 200
_MOST_IDS = 1000
#: Letters that are settled at the same time.
_AT_ONCE = 20


@routes.get("/distributed/dead")
async def get_dead(request: web.Request) -> web.Response:
    """The oldest first; bodies in a few words. `more`: others lie behind these."""
    require_admin(request)
    async with context(request).transport.dead_letters() as letters:
        shown = await asyncio.to_thread(lambda: [_summary(each.letter) for each in letters.held])
    return web.json_response({"dead": shown, "more": letters.more})


@routes.post("/distributed/dead")
async def post_dead(request: web.Request) -> web.Response:
    """Submit jobs again, each under a new id, and put unreadable messages back; or drop either."""
    require_admin(request)
    ctx = context(request)
    deed, ids = _asked(await read_object(request))
    retried: dict[str, str] = {}
    put_back: list[str] = []
    dropped: list[str] = []
    kept: dict[str, str] = {}

    async def settle(held: HeldLetter) -> None:
        id_ = held.letter.id
        try:
            if deed == "drop":
                await held.drop()
                dropped.append(id_)
            elif (job := held.letter.job()) is not None:
                retried[id_] = await _retry(ctx, held, job)
            else:
                await _put_back(held)
                put_back.append(id_)
        except ComfyDistError as error:
            kept[id_] = str(error)

    async with ctx.transport.dead_letters() as letters:
        meant = [held for held in letters.held if ids is None or held.letter.id in ids]
        for start in range(0, len(meant), _AT_ONCE):
            await asyncio.gather(*map(settle, meant[start : start + _AT_ONCE]))
    done = {*retried, *put_back, *dropped, *kept}
    return web.json_response(
        {
            "retried": retried,
            "put_back": put_back,
            "dropped": dropped,
            "kept": kept,
            "unknown": sorted((ids or set()) - done),
            "more": letters.more,
        }
    )


async def _retry(ctx: Context, held: HeldLetter, job: Job) -> str:
    """Submit it as its client did, under another id: the old one has ended, and workers drop it."""
    extra = job.extra_data | ({"webhook": job.webhook.model_dump(mode="json")} if job.webhook else {})
    request = {
        "prompt": job.prompt,
        "prompt_id": str(uuid.uuid5(_AGAIN, held.letter.id)),
        "client_id": job.client_id,
        "extra_data": extra,
        "front": job.number < 0,
        "partial_execution_targets": list(job.outputs_to_execute) or None,
    }
    accepted = await submit(ctx, request, Identity(user=job.user, admin=True))
    await held.drop()
    return accepted.prompt_id


async def _put_back(held: HeldLetter) -> None:
    if not await held.put_back():
        queue = held.letter.queue[:MAX_ID] or "none that it names"
        raise Refused(
            409, f"It cannot be read, and the queue that it came from ({queue}) does not take it; drop it."
        )


def _asked(body: dict[str, Any]) -> tuple[Literal["retry", "drop"], set[str] | None]:
    """What is to be done, and with which; None: with all."""
    deeds = body.keys() & {"retry", "drop"}
    if len(deeds) != 1 or len(body) > 1:
        raise Refused(400, 'Say {"retry": [ids]} or {"drop": [ids]}; "all" instead of the list means all.')
    deed: Literal["retry", "drop"] = "retry" if "retry" in deeds else "drop"
    ids = body[deed]
    if ids == "all":
        return deed, None
    if not isinstance(ids, list) or len(ids) > _MOST_IDS or not all(isinstance(id_, str) for id_ in ids):
        raise Refused(400, f'{deed} must be a list of at most {_MOST_IDS} ids, or "all".')
    return deed, set(ids)


def _summary(letter: DeadLetter) -> dict[str, Any]:
    job = letter.job()
    summary: dict[str, Any] = {
        "id": letter.id,
        "kind": "job" if job else "unreadable",
        "reason": letter.reason,
        "queue": letter.queue,
        "at": letter.at or None,
        "bytes": len(letter.body),
    }
    if job is None:
        return summary | {"excerpt": letter.body[:_EXCERPT].decode("utf-8", "replace")}
    return summary | {"nodes": len(job.prompt), "client_id": job.client_id, "user": job.user}
