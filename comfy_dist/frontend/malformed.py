"""Keeps what is no HTTP out of the log: aiohttp would show it, and with it the key that it may hold."""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError

log = logging.getLogger(__name__)


class _WithoutRequests(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        log.debug("A request that is no HTTP was refused: %s", type(error).__name__)
        return False


#: What the server says of requests that reach no route.
server_log = logging.getLogger("comfy_dist.frontend.server")
server_log.addFilter(_WithoutRequests())
