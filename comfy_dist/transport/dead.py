"""Dead letters: what nobody could bring to an end, as an operator looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError

from comfy_dist.messages import Job

#: What is held at once at most: letters, and bytes of them together. What lies behind is seen when these are gone.
MOST_LETTERS = 1000
MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A job that was given up, or a message that could not be read."""

    #: The message's, which of a job is the job's.
    id: str
    reason: str
    #: Where it came from.
    queue: str
    #: When it died, in milliseconds since the epoch; 0: not known.
    at: int = 0
    body: bytes

    def job(self) -> Job | None:
        """None: it cannot be read."""
        try:
            return Job.from_bytes(self.body)
        except ValidationError:
            return None


class HeldLetter(Protocol):
    """One in the hands of who looks; left alone it goes back to where it lay."""

    @property
    def letter(self) -> DeadLetter: ...

    async def drop(self) -> None:
        """For good."""
        ...

    async def put_back(self) -> bool:
        """Into the queue it came from, as it was. Whether that queue takes it; if not it stays."""
        ...


@dataclass(frozen=True, slots=True)
class HeldLetters:
    """The oldest first; nobody else holds any meanwhile."""

    held: Sequence[HeldLetter]
    #: Whether there are others behind them.
    more: bool
