"""GET /object_info: the live workers' node catalogue, encoded once for everyone."""

from __future__ import annotations

import asyncio
import gzip
import json

from aiohttp import web

from comfy_dist.frontend.context import context
from comfy_dist.messages import Catalogue

routes = web.RouteTableDef()


class EncodedNodes:
    """The JSON of the last catalogue asked for, plain and gzipped: a third of a megabyte and up."""

    def __init__(self) -> None:
        self._hash = ""
        self._plain = b"{}"
        self._gzipped = gzip.compress(b"{}")
        self._encoding = asyncio.Lock()

    async def of(self, catalogue: Catalogue | None, *, gzipped: bool) -> bytes:
        if catalogue is None:
            return gzip.compress(b"{}") if gzipped else b"{}"
        async with self._encoding:
            if catalogue.hash != self._hash:
                self._plain, self._gzipped = await asyncio.to_thread(_encode, catalogue)
                self._hash = catalogue.hash
            return self._gzipped if gzipped else self._plain


def _encode(catalogue: Catalogue) -> tuple[bytes, bytes]:
    plain = json.dumps(catalogue.nodes, separators=(",", ":")).encode()
    return plain, gzip.compress(plain, 6)


ENCODED_NODES: web.AppKey[EncodedNodes] = web.AppKey("encoded_nodes", EncodedNodes)


@routes.get("/object_info")
async def object_info(request: web.Request) -> web.Response:
    """Every node class; {} while no worker's catalogue is known yet."""
    gzipped = "gzip" in request.headers.get("Accept-Encoding", "").lower()
    body = await request.app[ENCODED_NODES].of(context(request).registry.catalogue, gzipped=gzipped)
    headers = {"Vary": "Accept-Encoding"} | ({"Content-Encoding": "gzip"} if gzipped else {})
    return web.Response(body=body, content_type="application/json", charset="utf-8", headers=headers)


@routes.get("/object_info/{class}")
async def object_info_of(request: web.Request) -> web.Response:
    """One node class by its name; {} for an unknown one, as in ComfyUI."""
    name = request.match_info["class"]
    catalogue = context(request).registry.catalogue
    known = catalogue.nodes.get(name) if catalogue else None
    return web.json_response({} if known is None else {name: known})
