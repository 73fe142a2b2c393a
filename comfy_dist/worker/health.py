"""GET /health of a worker."""

from __future__ import annotations

import logging

from aiohttp import web

from comfy_dist.worker.worker import Worker

log = logging.getLogger(__name__)


async def serve_health(worker: Worker, port: int, host: str = "127.0.0.1") -> web.AppRunner:
    """Answer 200 while jobs can be taken, else 503. A port that is in use is a warning: work goes on."""

    async def health(_: web.Request) -> web.Response:
        return web.json_response(
            {
                "healthy": worker.healthy,
                "state": worker.state,
                "worker": worker.id,
                "unreadable": worker.unreadable,
            },
            status=200 if worker.healthy else 503,
        )

    app = web.Application()
    app.router.add_get("/health", health)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
    except OSError as error:
        log.warning("GET /health is not served: port %d cannot be used (%s).", port, error.strerror)
    else:
        log.info("GET http://%s:%d/health tells how this worker is.", host, runner.addresses[0][1])
    return runner
