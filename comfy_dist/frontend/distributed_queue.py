"""POST /distributed/queue: a prompt for chosen workers together, or once for each of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from comfy_dist.frontend.answers import Refused, read_object
from comfy_dist.frontend.context import Context, context
from comfy_dist.frontend.identity import Identity, identity_of
from comfy_dist.frontend.job_request import MAX_NODES, prompt_of
from comfy_dist.frontend.spreading import refused, spread_of, workers_of
from comfy_dist.frontend.submission import known_catalogue, submit, submit_all
from comfy_dist.messages import ANYBODY, Announcement, Participation, Spread, WorkerState, selected
from comfy_dist.workflows.seeds import reseeded

routes = web.RouteTableDef()

#: Nodes of all prompts that one request makes.
MOST_NODES = 10 * MAX_NODES
#: What POST /prompt takes and this hands on as it is.
_HANDED_ON = ("client_id", "prompt_id", "number", "front", "partial_execution_targets")


@dataclass(frozen=True, slots=True)
class Asked:
    """The request, understood."""

    #: The body of POST /prompt that it comes down to.
    request: dict[str, Any]
    spread: Spread
    each: bool


@routes.post("/distributed/queue")
async def post_queue(request: web.Request) -> web.Response:
    ctx, who = context(request), identity_of(request)
    asked = asked_of(await read_object(request), ctx.config.now.spread)
    if asked.each:
        return web.json_response(await _each(ctx, asked, who))
    accepted = await submit(ctx, asked.request, who)
    count = len(_live(ctx, asked.spread))
    return web.json_response(accepted.as_json() | {"worker_count": count, "auto_prepare_supported": True})


async def _each(ctx: Context, asked: Asked, who: Identity) -> dict[str, Any]:
    """The prompt on every chosen worker, for itself; its seeds one further on each than on the one before."""
    prompt, extra = prompt_of(asked.request), asked.request["extra_data"]
    nodes = (await known_catalogue(ctx)).nodes
    workers = _live(ctx, asked.spread)
    if not workers:
        raise Refused(
            503, "None of the workers that are chosen is live, so there is nobody to run it.", kind="no_workers"
        )
    _check_names(ctx, workers)
    if len(prompt) * len(workers) > MOST_NODES:
        sentence = (
            f"The prompt has {len(prompt)} nodes, for {len(workers)} workers; {MOST_NODES} are allowed in all."
        )
        raise Refused(400, sentence, kind="invalid_prompt")

    def requests() -> list[dict[str, Any]]:
        return [
            asked.request | {"prompt": reseeded(prompt, place, nodes), "extra_data": extra | _alone(worker.name)}
            for place, worker in enumerate(workers)
        ]

    accepted = await submit_all(ctx, await asyncio.to_thread(requests), who)
    prompts = [{"worker": worker.name} | each.as_json() for worker, each in zip(workers, accepted, strict=True)]
    return {"prompts": prompts, "worker_count": len(workers)}


def _live(ctx: Context, spread: Spread) -> list[Announcement]:
    """The chosen workers that can take something, in the order that was chosen, else by name.

    Not yet one that has just come, and of which it is not known what it can run.
    """
    known = ctx.registry.place(ANYBODY).able
    return selected([worker for worker in known if worker.state is not WorkerState.DRAINING], spread, own="")


def _check_names(ctx: Context, workers: list[Announcement]) -> None:
    """A prompt is one worker's by its name, which outlives a restart. Raises Refused."""
    count = Counter(worker.name for worker in ctx.registry.live)
    if several := sorted(worker.id for worker in workers if count[worker.name] > 1):
        raise Refused(
            409,
            f"Other workers have the names of {', '.join(several)}, so a prompt of their own could go to those: "
            "start each with another --worker-name.",
            kind="same_name",
        )


def _alone(worker: str) -> dict[str, Any]:
    """What has only this worker execute a prompt."""
    spread = Spread(workers=(worker,), participation=Participation.PARTICIPATING)
    return {"worker": worker, "distributed": spread.model_dump(mode="json")}


def asked_of(body: dict[str, Any], standing: Spread) -> Asked:
    """Raises Refused. What POST /prompt judges is left to that."""
    prompt, workflow = _prompt_of(body)
    extra = {} if body.get("extra_data") is None else body["extra_data"]
    if not isinstance(extra, dict):
        raise refused("extra_data must be an object.")
    spread = _spread_of(body, extra, standing)
    each = body.get("each", False)
    if not isinstance(each, bool):
        raise refused("each is true or false.")
    if each:
        for key, given in (("prompt_id", body), ("delegate_master", body), ("worker", extra)):
            if given.get(key) is not None:
                raise refused(f"{key} has no meaning with each, which makes a prompt for every chosen worker.")
    extra = extra | {"distributed": spread.model_dump(mode="json")} | _with_workflow(extra, workflow)
    request = {key: body[key] for key in _HANDED_ON if key in body}
    return Asked(request | {"prompt": prompt, "extra_data": extra}, spread, each)


def _prompt_of(body: dict[str, Any]) -> tuple[Any, dict[str, Any] | None]:
    """The prompt, which may lie in `workflow`, and the page's workflow that it was made of."""
    prompt, workflow = body.get("prompt"), body.get("workflow")
    if workflow is not None and not isinstance(workflow, dict):
        raise refused("workflow must be an object.")
    if prompt is None and workflow is not None:
        prompt = workflow.get("prompt")
        rest = {key: value for key, value in workflow.items() if key != "prompt"}
        inner = rest.get("workflow")
        workflow = inner if isinstance(inner, dict) else rest if "nodes" in rest else None
    return prompt, workflow


def _with_workflow(extra: dict[str, Any], workflow: dict[str, Any] | None) -> dict[str, Any]:
    """Where pictures and the history look for it, unless the client put it there itself."""
    info = extra.get("extra_pnginfo") or {}
    if workflow is None or not isinstance(info, dict) or "workflow" in info:
        return {}
    return {"extra_pnginfo": {**info, "workflow": workflow}}


def _spread_of(body: dict[str, Any], extra: dict[str, Any], standing: Spread) -> Spread:
    """What the body says, before what its extra_data says, before what stands for all prompts."""
    spread = spread_of(extra, standing)
    key = "enabled_worker_ids" if body.get("enabled_worker_ids") is not None else "workers"
    if (workers := body.get(key)) is not None:
        spread = spread.model_copy(update={"workers": workers_of(_ids(workers), key)})
    if (delegate := body.get("delegate_master")) is not None:
        if not isinstance(delegate, bool):
            raise refused("delegate_master is true or false.")
        participation = Participation.FALLBACK if delegate else Participation.PARTICIPATING
        spread = spread.model_copy(update={"participation": participation})
    return spread


def _ids(workers: Any) -> Any:
    """Scripts also send {"id": id} and numbers."""
    if not isinstance(workers, list):
        return workers
    ids = [each.get("id") if isinstance(each, dict) else each for each in workers]
    return [str(id_) if isinstance(id_, int) and not isinstance(id_, bool) else id_ for id_ in ids]
