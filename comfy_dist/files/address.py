"""Where a participant's file server listens, and under which address others reach it."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True, slots=True)
class Place:
    """By the settings; `broker` is the broker's address, which tells what others may reach."""

    broker: str
    #: None: the address that reaches the broker.
    listen: str | None = None
    #: 0: any free one.
    port: int = 0
    #: http://host:port; None: where it listens.
    advertise: str | None = None

    def host(self) -> str:
        """Where to listen. Looks the broker's name up, blocking."""
        return self.listen or reaching(self.broker)

    def advertised(self, port: int) -> str:
        """What others are told, when the server has got `port`."""
        if self.advertise is not None:
            return self.advertise.rstrip("/")
        host = self.host()
        if host in _ANY:
            host = reaching(self.broker)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def reaching(broker: str) -> str:
    """This machine's address on the way to the broker; the loopback where that is on it, or not found."""
    parts = urlsplit(broker)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            parts.hostname or LOOPBACK, parts.port or 5672, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # Of datagrams this sends nothing; it only chooses the way.
            probe.connect(address)
            found = str(probe.getsockname()[0])
    except OSError:
        return LOOPBACK
    return LOOPBACK if ipaddress.ip_address(found.partition("%")[0]).is_loopback else found
