"""GET /metrics: what one frontend sees, in Prometheus' text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from comfy_dist.frontend.context import Context, context
from comfy_dist.messages import Urgency, WorkerState

#: Paths that are no route of ours share a label: there are as many as people think of.
_NO_ROUTE = "none"

routes = web.RouteTableDef()


class Standing(Collector):
    """How things stand when they are asked for; the cluster's, not this frontend's alone."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def collect(self) -> Iterator[GaugeMetricFamily]:
        pending, running = self._ctx.ledger.pending, self._ctx.ledger.running
        yield _gauge("comfyui_jobs", "Jobs that wait or run.", "state", pending=len(pending), running=len(running))
        ranks = Counter(job.urgency for job in pending)
        waiting = {urgency.value: ranks[urgency.rank] for urgency in Urgency}
        yield _gauge("comfyui_queue_jobs", "Jobs that wait.", "urgency", **waiting)
        states = Counter(worker.state for worker in self._ctx.registry.workers)
        live = {state.value: states[state] for state in WorkerState if state is not WorkerState.GONE}
        yield _gauge("comfyui_workers", "Live workers.", "state", **live)
        reached = int(self._ctx.transport.connected)
        yield GaugeMetricFamily("comfyui_broker_connected", "1 while the broker is reached.", value=reached)
        counts = self._ctx.transport.unreadable.counts
        yield _gauge("comfyui_unreadable_messages", "Messages set aside since the start here.", "place", **counts)
        clients = len(self._ctx.hub)
        yield GaugeMetricFamily("comfyui_websocket_clients", "Open websockets here.", value=clients)


def _gauge(name: str, text: str, label: str, **values: int) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


@routes.get("/metrics")
async def get_metrics(request: web.Request) -> web.Response:
    body = generate_latest(context(request).counts.registry)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


@web.middleware
async def counted(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count what is answered under its route, the same with and without /api."""
    response = await handler(request)
    resource = request.match_info.route.resource
    route = _NO_ROUTE if resource is None else resource.canonical.removeprefix("/api") or "/"
    context(request).counts.answered(request.method, route, response.status)
    return response
