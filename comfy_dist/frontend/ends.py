"""Requests that wait for the end of a job."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Ends:
    """Wakes those who wait for one job, however many wait for others."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    @contextmanager
    def awaited(self, job_id: str) -> Iterator[asyncio.Event]:
        """Set when the job has ended in the ledger; one that had before must be asked for there."""
        ended = asyncio.Event()
        self._waiting.setdefault(job_id, set()).add(ended)
        try:
            yield ended
        finally:
            waiting = self._waiting[job_id]
            waiting.discard(ended)
            if not waiting:
                del self._waiting[job_id]

    def tell(self, job_id: str) -> None:
        for ended in self._waiting.get(job_id, ()):
            ended.set()
