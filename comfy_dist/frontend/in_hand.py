"""Which jobs a worker has in hand, as the control stream tells."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from comfy_dist.messages import (
    AttemptFailedFact,
    CancelledFact,
    EndedFact,
    Fact,
    JoinedFact,
    ReleasedFact,
    StartedFact,
)

#: Seconds to wait for one's own fact to come back.
READ_BACK_SECONDS = 5.0


class InHand:
    """Folds the facts from the frontend's start on; what began before it, the ledger knows as running."""

    def __init__(self) -> None:
        self._claimed: set[str] = set()
        self._cancelled: dict[str, asyncio.Future[bool]] = {}

    def fold(self, fact: Fact) -> None:
        match fact:
            case StartedFact():
                self._claimed.add(fact.job)
            case EndedFact() | AttemptFailedFact() | ReleasedFact():
                self._claimed.discard(fact.job)
            case CancelledFact():
                waiting = self._cancelled.get(fact.job)
                if waiting is not None and not waiting.done():
                    waiting.set_result(fact.job in self._claimed)
            case JoinedFact():
                pass

    def has(self, job_id: str) -> bool:
        """Whether a worker has claimed the job, known before the news of its start."""
        return job_id in self._claimed

    @contextmanager
    def expecting(self, job_id: str) -> Iterator[asyncio.Future[bool]]:
        """Resolved when the job's cancellation comes: whether a worker had it in hand then."""
        waiting = self._cancelled.setdefault(job_id, asyncio.get_running_loop().create_future())
        try:
            yield waiting
        finally:
            self._cancelled.pop(job_id, None)

    async def at_cancellation(self, job_id: str, waiting: asyncio.Future[bool]) -> bool:
        """What `expecting` told, or what is known when it is late."""
        try:
            return await asyncio.wait_for(asyncio.shield(waiting), READ_BACK_SECONDS)
        except TimeoutError:
            return job_id in self._claimed
