"""Which hosts of private networks nodes may reach: those that --allow-remote-host names, and no others."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from comfy_dist.errors import UsageError
from comfy_dist.outside.addresses import Address, is_public, literal

#: Says it to an engine's process, and to a stock ComfyUI that somebody starts.
VARIABLE = "COMFYUI_ALLOW_REMOTE_HOST"
_PLACE = re.compile(r"(?:\[(?P<bracketed>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9_.-]+))(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class Allowed:
    """(host, port; None for all of its ports), hosts as `_written`."""

    places: frozenset[tuple[str, int | None]] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of HOST or HOST:PORT, comma separated. Raises UsageError."""
        return cls(frozenset(_place(each.strip()) for each in text.split(",") if each.strip()))

    def may_reach(self, host: str, address: Address, port: int) -> bool:
        """Whether nodes may connect to the address, which a host is written as or was looked up to have."""
        if is_public(address):
            return True
        known = {_written(host), str(address)}
        return any(name in known and number in (None, port) for name, number in self.places)


def allowed_here() -> Allowed:
    """Those of this process. Raises UsageError."""
    return Allowed.parse(os.environ.get(VARIABLE, ""))


def environment(places: Sequence[str]) -> dict[str, str]:
    """What tells another process; nothing where nothing is allowed."""
    return {VARIABLE: ",".join(places)} if places else {}


def _place(text: str) -> tuple[str, int | None]:
    found = _PLACE.fullmatch(text)
    if found is None or int(found["port"] or 0) > 65535:
        raise UsageError(f"{text[:100]!r} in {VARIABLE} is neither HOST nor HOST:PORT.")
    return _written(found["bracketed"] or found["host"]), None if found["port"] is None else int(found["port"])


def _written(host: str) -> str:
    """A host as it is compared."""
    address = literal(host)
    return host.rstrip(".").lower() if address is None else str(address)
