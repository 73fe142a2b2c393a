"""GET /ready: whether it is of use to send prompts to this frontend."""

from __future__ import annotations

from aiohttp import web

from comfy_dist.frontend.context import Context, context
from comfy_dist.frontend.identity import without_sign_in
from comfy_dist.messages import WorkerState

routes = web.RouteTableDef()

_ABLE = (WorkerState.IDLE, WorkerState.BUSY)


@routes.get("/ready")
@without_sign_in
async def get_ready(request: web.Request) -> web.Response:
    """200, or 503 with the reasons."""
    reasons = missing(context(request))
    return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)


def missing(ctx: Context) -> list[str]:
    """What prompts would wait for, a sentence each."""
    reasons = []
    if not ctx.transport.connected:
        reasons.append("The broker is not reached.")
    workers = ctx.registry.workers
    if not workers:
        reasons.append("No worker is live.")
    elif not any(worker.state in _ABLE for worker in workers):
        reasons.append("Every live worker is starting or draining.")
    elif ctx.registry.catalogue is None:
        reasons.append("The workers' nodes are not known yet.")
    return reasons
