"""Where others are reached, and which ways to them were seen not to work."""

from __future__ import annotations

import contextlib
import logging
import time
from urllib.parse import urlsplit

from comfy_dist.errors import ComfyDistError, text_of
from comfy_dist.tensors.errors import WayFailed

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
#: Bytes in a second below which a transfer is given up, at both ends.
_SLOWEST = 100_000
#: Seconds after which a way that failed is tried again.
_AGAIN_SECONDS = 60.0


def seconds_for(nbytes: int, patience: float) -> float:
    """How long a transfer may take in all; `patience`: how long the other end may be silent."""
    return patience + nbytes / _SLOWEST


def host_and_port(address: str) -> tuple[str, int]:
    """Of a plane's HTTP address. Others said it: a path or a user in it leads nowhere. Raises WayFailed."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(address)
        if parts.scheme == "http" and parts.hostname:
            return parts.hostname, parts.port or 80
    raise WayFailed(f"{text_of(address)!r} is no address of a holder.")


class Ways:
    """By name: an address, or a way and where it leads. A failure is said once, until the way has worked again."""

    def __init__(self) -> None:
        self._failed: dict[str, float] = {}

    def good(self, way: str) -> bool:
        """False soon after it failed."""
        return time.monotonic() >= self._failed.get(way, 0)

    def failed(self, way: str, error: ComfyDistError) -> None:
        if way not in self._failed:
            log.warning("%s Another way is tried.", error)
        self._failed[way] = time.monotonic() + _AGAIN_SECONDS

    def worked(self, way: str) -> None:
        self._failed.pop(way, None)
