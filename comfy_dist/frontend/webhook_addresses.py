"""Which addresses a frontend sends webhooks to: who submits a prompt must not reach the network behind it."""

from __future__ import annotations

import ipaddress
import socket

from aiohappyeyeballs import AddrInfoType

from comfy_dist.outside.addresses import is_public


class NotPublic(OSError):
    """A connection to an address that webhooks are not sent to."""


def public_socket(info: AddrInfoType) -> socket.socket:
    """A socket for the address that is about to be connected to, however a name came to mean it.

    Raises NotPublic. Checked here, a name cannot mean one address when it is looked at and another afterwards.
    """
    family, kind, protocol, _, address = info
    if not is_public(ipaddress.ip_address(str(address[0]).partition("%")[0])):
        raise NotPublic("its address is not a public one")
    return socket.socket(family, kind, protocol)
