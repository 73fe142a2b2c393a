"""The file server of a participant: GET /files/TOKEN, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO

from aiohttp import web

from comfy_dist.files.address import Place
from comfy_dist.files.holder import Gone, Held, Holder

log = logging.getLogger(__name__)

#: Bytes read at a time.
CHUNK = 2**18
#: Seconds that transfers get when the participant stops.
SHUTDOWN_SECONDS = 2.0
HOLDER: web.AppKey[Holder] = web.AppKey("holder", Holder)


@asynccontextmanager
async def file_server(holder: Holder, place: Place) -> AsyncIterator[None]:
    """Serve what the holder grants. A place that cannot be served is a warning: the broker carries files too."""
    app = web.Application()
    app[HOLDER] = holder
    app.router.add_get("/files/{token}", _get)
    app.router.add_route("*", "/{rest:.*}", _refuse)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        host = await asyncio.to_thread(place.host)
        try:
            site = web.TCPSite(runner, host, place.port)
            await site.start()
        except OSError as error:
            log.warning(
                "Files cannot be served on %s port %d (%s); others get them through the broker. "
                "Another place: --file-listen.",
                host,
                place.port,
                error.strerror or error,
            )
        else:
            holder.address = await asyncio.to_thread(place.advertised, runner.addresses[0][1])
            log.info("Others fetch files of this machine from %s.", holder.address)
        yield
    finally:
        holder.address = ""
        await runner.cleanup()


async def _refuse(_: web.Request) -> web.StreamResponse:
    raise web.HTTPForbidden(text="A file is opened by the token that its holder gave for it.\n")


async def _get(request: web.Request) -> web.StreamResponse:
    """One file, its sha256 as ETag; one range of it where that is asked for."""
    holder = request.app[HOLDER]
    # Tokens are random and looked up by hash: the time it takes tells nothing of them.
    held = holder.opened(request.match_info["token"])
    if held is None:
        return await _refuse(request)
    try:
        await asyncio.to_thread(held.check)
        etag = f'"{await holder.digests.of(held.path)}"'
        file = await asyncio.to_thread(held.path.open, "rb")
    except (Gone, OSError) as error:
        raise web.HTTPGone(text=f"{error}\n") from None
    try:
        return await _send(request, held, file, etag)
    finally:
        await asyncio.to_thread(file.close)


async def _send(request: web.Request, held: Held, file: BinaryIO, etag: str) -> web.StreamResponse:
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
        "Cache-Control": "private",
        "X-Content-Type-Options": "nosniff",
    }
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers=headers)
    start, stop = 0, held.size
    if "Range" in request.headers and request.headers.get("If-Range", etag) == etag:
        try:
            start, stop, _ = request.http_range.indices(held.size)
        except ValueError:
            start = stop = held.size
        if start >= stop:
            headers["Content-Range"] = f"bytes */{held.size}"
            return web.Response(status=416, headers=headers)
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{held.size}"
    response = web.StreamResponse(status=206 if "Content-Range" in headers else 200, headers=headers)
    response.content_length = stop - start
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    await asyncio.to_thread(file.seek, start)
    left = stop - start
    while left and (chunk := await asyncio.to_thread(file.read, min(CHUNK, left))):
        await response.write(chunk)
        left -= len(chunk)
    if left:
        # It was cut short since; who fetches it must not take this for the end.
        raise ConnectionResetError("The file became shorter while it was sent.")
    await response.write_eof()
    return response
