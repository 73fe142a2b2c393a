"""HTTP to where a workflow says, and never to a private address that nobody allowed."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from comfy_dist.outside.addresses import literal
from comfy_dist.outside.allowed import VARIABLE, Allowed
from comfy_dist.outside.errors import OutsideRefused
from comfy_dist.outside.names import Names

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

#: Seconds without a byte after which nobody waits any longer.
SILENCE_SECONDS = 30.0
#: Names that are looked up at the same time.
_LOOK_UPS = 4


@asynccontextmanager
async def guarded_session(
    allowed: Allowed, *, silence: float = SILENCE_SECONDS
) -> AsyncIterator[aiohttp.ClientSession]:
    """A session whose requests, redirects included, raise OutsideRefused where `allowed` does not let them.

    It follows no proxy of the environment and keeps no cookies. `silence`: seconds to wait for a connection, and
    for each next byte; a request's own `timeout` replaces it.
    """
    names = _AllowedNames(allowed)
    try:
        async with aiohttp.ClientSession(
            connector=_Connector(allowed, names),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=silence, sock_read=silence),
            headers={"User-Agent": "comfy_dist"},
        ) as session:
            yield session
    finally:
        await names.close()


class _Connector(aiohttp.TCPConnector):
    """Every request comes here, each redirect too; of hosts that are written as addresses no resolver hears."""

    def __init__(self, allowed: Allowed, names: _AllowedNames) -> None:
        super().__init__(resolver=names)
        self._allowed_hosts = allowed

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Connection:
        """Raises OutsideRefused."""
        host, port = req.url.raw_host or "", req.url.port or 0
        address = literal(host)
        if address is not None and not self._allowed_hosts.may_reach(host, address, port):
            raise _refusal(str(address), port)
        return await super().connect(req, traces, timeout)


class _AllowedNames(AbstractResolver):
    """Looks a name up once: what was judged is what is connected to."""

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed
        self._names = Names(_LOOK_UPS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Those of its addresses that may be reached. Raises OutsideRefused where it has only others, OSError."""
        found = await self._names.resolve(host, port, family)
        reachable = [each for each in found if self._allowed.may_reach(host, _address(each), port)]
        if found and not reachable:
            raise _refusal(host, port)
        return reachable

    async def close(self) -> None:
        await self._names.close()


def _address(found: ResolveResult) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(found["host"].partition("%")[0])


def _refusal(host: str, port: int) -> OutsideRefused:
    shown = f"[{host}]" if ":" in host else host
    return OutsideRefused(
        f"{shown}:{port} is in a private network, where workflows reach only what the worker was started for: "
        f"--allow-remote-host {shown}:{port} (for a ComfyUI that no worker started, in {VARIABLE})."
    )
