"""Several websocket messages in one packet: each packet of its own wakes both ends."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from aiohttp import web

#: Linux holds back what does not fill a packet while this is set (tcp(7)); elsewhere each message goes by itself.
_CORK: int | None = getattr(socket, "TCP_CORK", None)


@contextlib.contextmanager
def together(response: web.WebSocketResponse) -> Iterator[None]:
    """What is written meanwhile is sent at its end."""
    connection = response.get_extra_info("socket")
    if _CORK is None or connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        yield
        return
    # Who writes to a socket that is gone is told by that.
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, _CORK, 1)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, _CORK, 0)
