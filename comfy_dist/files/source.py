"""What every way to a file has in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from comfy_dist.errors import ComfyDistError


class Unreachable(ComfyDistError):
    """This way there is nobody."""


class Broken(ComfyDistError):
    """The transfer ended before its end; the text says how, within a sentence."""


class Stale(Broken):
    """What was granted cannot be had any more: ask again."""


class Stream(Protocol):
    """One transfer."""

    #: sha256 of the whole file as its holder says, in hex; known at the end.
    digest: str

    def chunks(self, offset: int) -> AsyncGenerator[bytes, None]:
        """The file from `offset` on. Raises Unreachable and Broken."""
        ...
