"""GET /object_info: the live workers' node catalogue, encoded once for everyone."""

from __future__ import annotations

import asyncio
import gzip
import json

from aiohttp import web

from comfy_dist.files.inputs import listing
from comfy_dist.frontend.context import context
from comfy_dist.messages import Catalogue

routes = web.RouteTableDef()


class EncodedNodes:
    """The JSON of the last catalogue asked for, plain and gzipped: a third of a megabyte and up."""

    def __init__(self) -> None:
        self._of: tuple[str, tuple[str, ...]] = ("", ())
        self._plain = b"{}"
        self._gzipped = gzip.compress(b"{}")
        self._encoding = asyncio.Lock()

    async def of(self, catalogue: Catalogue | None, names: tuple[str, ...], *, gzipped: bool) -> bytes:
        """`names`: files of our own that it is to list too."""
        if catalogue is None:
            return gzip.compress(b"{}") if gzipped else b"{}"
        async with self._encoding:
            if (catalogue.hash, names) != self._of:
                self._plain, self._gzipped = await asyncio.to_thread(_encode, catalogue, names)
                self._of = (catalogue.hash, names)
            return self._gzipped if gzipped else self._plain


def _encode(catalogue: Catalogue, names: tuple[str, ...]) -> tuple[bytes, bytes]:
    plain = json.dumps(listing(catalogue.nodes, names), separators=(",", ":")).encode()
    return plain, gzip.compress(plain, 6)


ENCODED_NODES: web.AppKey[EncodedNodes] = web.AppKey("encoded_nodes", EncodedNodes)


@routes.get("/object_info")
async def object_info(request: web.Request) -> web.Response:
    """Every node class; {} while no worker's catalogue is known yet."""
    gzipped = "gzip" in request.headers.get("Accept-Encoding", "").lower()
    catalogue = context(request).registry.catalogue
    body = await request.app[ENCODED_NODES].of(catalogue, await _own_files(request), gzipped=gzipped)
    headers = {"Vary": "Accept-Encoding"} | ({"Content-Encoding": "gzip"} if gzipped else {})
    return web.Response(body=body, content_type="application/json", charset="utf-8", headers=headers)


@routes.get("/object_info/{class}")
async def object_info_of(request: web.Request) -> web.Response:
    """One node class by its name; {} for an unknown one, as in ComfyUI."""
    name = request.match_info["class"]
    catalogue = context(request).registry.catalogue
    known = catalogue.nodes.get(name) if catalogue else None
    if known is None:
        return web.json_response({})
    return web.json_response(dict(listing({name: known}, await _own_files(request))))


async def _own_files(request: web.Request) -> tuple[str, ...]:
    """What was uploaded here and may be on no worker yet."""
    files = context(request).files
    return await files.input_names() if files is not None else ()
