"""The cluster as one frontend sees it."""

from __future__ import annotations

from aiohttp import web

from comfy_dist.frontend.context import context

routes = web.RouteTableDef()


@routes.get("/distributed/workers")
async def get_workers(request: web.Request) -> web.Response:
    """Every live worker as announced, with the job it runs and its progress."""
    workers = context(request).registry.workers
    return web.json_response({"workers": [worker.model_dump(mode="json") for worker in workers]})


@routes.get("/health")
async def health(request: web.Request) -> web.Response:
    """Whether this frontend can accept prompts: 200, or 503 while the broker is away."""
    ctx = context(request)
    connected = ctx.transport.connected
    body = {"healthy": connected, "broker": connected, "workers": len(ctx.registry.workers), "frontend": ctx.id}
    return web.json_response(body, status=200 if connected else 503)
