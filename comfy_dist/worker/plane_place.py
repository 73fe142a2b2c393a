"""Where the tensor planes of a worker's engines listen, and under which address others reach them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from comfy_dist.files.address import LOOPBACK, Place


@dataclass(frozen=True, slots=True)
class PlanePlace:
    """By the settings. `place` None: all that tensors are pulled by is on this machine."""

    place: Place | None = None
    #: How tensors are written where that is quicker (tensors/codecs.py).
    codec: str = "auto"

    def of(self, lane: int) -> dict[str, Any]:
        """What that lane's engine is told. Each has a port of its own, counted from the one that was named.

        Looks names up, blocking.
        """
        if self.place is None:
            return {"listen": LOOPBACK, "port": 0, "advertise": LOOPBACK, "advertised_port": 0}
        port = self.place.port and self.place.port + lane
        advertised = urlsplit(self.place.advertised(port))
        named = self.place.advertise is not None
        return {
            "listen": self.place.host(),
            "port": port,
            "advertise": advertised.hostname or LOOPBACK,
            # 0: the one that it gets.
            "advertised_port": (advertised.port or 80) + lane if named else 0,
        }
