"""Which ways to others were seen not to work."""

from __future__ import annotations

import logging
import time

from comfy_dist.errors import ComfyDistError

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
#: Seconds after which a way that failed is tried again.
_AGAIN_SECONDS = 60.0


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
