"""Which addresses are the internet's."""

from __future__ import annotations

import ipaddress
import socket
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Where machines are told their credentials and settings, at numbers that are public: Azure's; and a network that
#: holds such a place (Oracle's) and that not every Python knows to be private.
_PRIVATE = tuple(ipaddress.IPv4Network(network) for network in ("168.63.129.16/32", "192.0.0.0/24"))
#: How networks without IPv4 write its addresses, in the last 32 bits (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether the address is one of the internet's, by every IPv4 address that it carries too."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if not all(is_public(each) for each in _carried(address)):
            return False
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not (isinstance(address, ipaddress.IPv6Address) and address.is_site_local)
        and not any(address in network for network in _PRIVATE)
    )


def _carried(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    return [each for each in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())) if each]


def literal(host: str) -> Address | None:
    """The address that a host is written as, also in the old forms 127.1 and 2130706433; None for a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            return ipaddress.ip_address(socket.inet_aton(host))
        except (OSError, ValueError):
            # A name; not even that, where it holds a zero byte.
            return None
