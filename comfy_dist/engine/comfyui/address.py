"""Where a ComfyUI answers: its address, with a path prefix and a bearer token where it has them."""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Self
from urllib.parse import quote

import aiohttp
from yarl import URL

from comfy_dist.errors import UsageError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """Made by `parse`. The token is never shown."""

    url: URL
    token: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str, token: str | None = None) -> Self:
        """Raises UsageError for what is no address, or carries credentials that would end in logs."""
        try:
            url = URL(text)
        except ValueError:
            url = URL()
        if url.scheme not in ("http", "https") or not url.host:
            raise UsageError(f"--engine {text} is not an address such as http://127.0.0.1:8188.")
        if url.user or url.password:
            raise UsageError("--engine takes no user and password in the address; give --engine-token.")
        if url.query_string or url.fragment:
            raise UsageError(f"--engine {text} has more than an address and a path; leave the rest out.")
        if token is not None and (not token.isascii() or not token.isprintable() or not token.strip()):
            raise UsageError("--engine-token cannot be sent: it must be printable ASCII without line ends.")
        return cls(url.with_path(url.path.rstrip("/") or "/"), token)

    def __str__(self) -> str:
        return str(self.url).rstrip("/")

    def at(self, *parts: str) -> URL:
        """The address of a route; a part is one step of its path, whatever stands in it."""
        quoted = (quote(part, safe="").replace(".", "%2E") for part in parts)
        return self.url.joinpath(*quoted, encoded=True)

    def warn_if_readable(self) -> None:
        """Say once where the token crosses a network in clear."""
        if self.token is not None and self.url.scheme == "http" and not _is_loopback(self.url.host or ""):
            _log.warning("The engine token goes to %s unencrypted; use https where others can listen.", self)

    def session(self) -> aiohttp.ClientSession:
        """A session that sends the token to this address and follows no redirect with it."""
        tracing = aiohttp.TraceConfig()
        tracing.on_request_redirect.append(_refuse_redirect)
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return aiohttp.ClientSession(headers=headers, trace_configs=[tracing])


class Redirected(aiohttp.ClientError):
    """A websocket's handshake was answered with a redirect; aiohttp would follow it."""


async def _refuse_redirect(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
) -> None:
    raise Redirected("the answer is a redirect")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
