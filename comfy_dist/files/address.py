"""Where a participant's file server listens, and under which address others reach it."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
#: Set aside for documentation: nobody is there, and the way to it is the way to most others.
_ELSEWHERE = "udp://192.0.2.1:9"
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
        return self.listen or on_the_way_to(self.broker)

    def advertised(self, port: int) -> str:
        """What others are told, when the server has got `port`."""
        if self.advertise is not None:
            return self.advertise.rstrip("/")
        host = self.host()
        if host in _ANY:
            # Beside the broker: the address that other machines most likely know this one by.
            host = on_the_way_to(self.broker)
            if host == LOOPBACK:
                host = on_the_way_to(_ELSEWHERE)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def on_the_way_to(address: str) -> str:
    """This machine's address on the way to a URL's host; the loopback where that is this machine, or not found."""
    parts = urlsplit(address)
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            parts.hostname or LOOPBACK, parts.port or 5672, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # Of datagrams this sends nothing; it only chooses the way.
            probe.connect(place)
            found = str(probe.getsockname()[0])
    except OSError:
        return LOOPBACK
    return LOOPBACK if ipaddress.ip_address(found.partition("%")[0]).is_loopback else found
