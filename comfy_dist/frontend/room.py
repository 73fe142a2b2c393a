"""How many more jobs may wait (--max-queue-size)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from comfy_dist.frontend.answers import Refused
from comfy_dist.ledger import Ledger


class Room:
    """Counts what is being accepted here beside what the ledger knows: a burst finds no gap between them."""

    def __init__(self) -> None:
        self._entering = 0

    @contextmanager
    def seat(self, ledger: Ledger, limit: int, jobs: int = 1) -> Iterator[None]:
        """Held until the ledger counts the jobs. Raises Refused with 429 where there is no room for them."""
        wait = ledger.accepted + self._entering
        if wait + jobs > limit:
            full = f"{limit} prompts wait already" if jobs == 1 else f"{wait} prompts wait, of {limit} that may"
            raise Refused(429, f"{full}; try again later.", kind="queue_full")
        self._entering += jobs
        try:
            yield
        finally:
            self._entering -= jobs
