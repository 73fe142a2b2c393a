"""A web server of the test's own, which notes who asked for what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Served:
    port: int
    asked: list[web.Request] = field(default_factory=list)

    @property
    def place(self) -> str:
        """As --allow-remote-host takes it."""
        return f"127.0.0.1:{self.port}"

    def url(self, path: str = "/", user: str = "") -> str:
        return f"http://{user}{self.place}{path}"


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Served]:
    """Every request of any method and path goes to the handler."""
    served = Served(0)

    async def noted(request: web.Request) -> web.StreamResponse:
        served.asked.append(request)
        return await handler(request)

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", noted)
    # Its handlers may wait for good.
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        served.port = runner.addresses[0][1]
        yield served
    finally:
        await runner.cleanup()


def answering(body: bytes = b"", kind: str = "image/png", status: int = 200) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind, status=status)

    return answer


def sending_on(place: str, status: int = 302) -> Handler:
    async def send_on(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": place})

    return send_on
