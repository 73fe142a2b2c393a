"""Wrong keys and tokens by address: who guesses has to wait."""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

#: So many different wrong ones may come from an address within so many seconds.
ALLOWED = 20
SECONDS = 60.0
#: Addresses, and right keys, that are remembered.
REMEMBERED = 10_000


@dataclass(slots=True)
class _Wrong:
    since: float
    digests: set[bytes] = field(default_factory=set)


class Attempts:
    """Counts different ones: a program with an old key tries the same for ever and guesses nothing.

    A key that was right before is let in from any address at any time, so that nobody who guesses from behind the
    same proxy shuts the others out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, _Wrong] = OrderedDict()
        self._right: OrderedDict[bytes, None] = OrderedDict()

    def wait(self, address: str, presented: str) -> float:
        """Seconds until the address may try this one; 0: now."""
        digest = _digest(presented)
        wrong = self._wrong.get(_network(address))
        if wrong is None or len(wrong.digests) < ALLOWED or digest in self._right:
            return 0.0
        return max(0.0, wrong.since + SECONDS - self._clock())

    def was_wrong(self, address: str, presented: str) -> bool:
        """Whether that was the last one for now."""
        network, now = _network(address), self._clock()
        wrong = self._wrong.get(network)
        if wrong is None or now - wrong.since >= SECONDS:
            wrong = self._wrong[network] = _Wrong(now)
            self._wrong.move_to_end(network)
            if len(self._wrong) > REMEMBERED:
                self._wrong.popitem(last=False)
        known = len(wrong.digests)
        wrong.digests.add(_digest(presented))
        return known < ALLOWED <= len(wrong.digests)

    def was_right(self, presented: str) -> None:
        self._right[_digest(presented)] = None
        if len(self._right) > REMEMBERED:
            self._right.popitem(last=False)


def _digest(presented: str) -> bytes:
    return hashlib.sha256(presented.encode("utf-8", "surrogatepass")).digest()


def _network(address: str) -> str:
    """The address; of IPv6 the /64 that one machine has to itself."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(parsed) if parsed.version == 4 else str(ipaddress.ip_network((int(parsed), 64), strict=False))
