"""Sockets that wait in the kernel: a whole tensor in one system call, for which no interpreter lock is taken."""

from __future__ import annotations

import socket
import struct
import sys

#: Elsewhere the kernel's timeouts are told otherwise; there Python waits, a few hundred kilobytes at a time.
POSSIBLE = sys.platform == "linux"


def wait_in_kernel(connection: socket.socket, seconds: float) -> None:
    """Make it blocking, the limit kept by the kernel: so long a wait without a byte is a BlockingIOError."""
    if not POSSIBLE:
        connection.settimeout(seconds)
        return
    limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    connection.settimeout(None)


def receive(connection: socket.socket, view: memoryview) -> int:
    """Fill it; how much there was until the other end closed. Raises OSError."""
    got = 0
    while got < len(view):
        count = connection.recv_into(view[got:], 0, socket.MSG_WAITALL)
        if not count:
            break
        got += count
    return got
