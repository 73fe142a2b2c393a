"""Prompt ids that clients give: who comes first in the event log has the id, on every frontend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from comfy_dist.errors import BrokerUnavailable
from comfy_dist.messages import Job, Submitted
from comfy_dist.transport import Transport

#: Seconds in which a submission comes back with the events.
RECORD_SECONDS = 10.0


class Claim:
    """Sees all that is submitted under one id while it is held."""

    def __init__(self) -> None:
        self._first: Submitted | None = None
        self._awaited: Submitted | None = None
        self._folded = asyncio.Event()

    def see(self, event: Submitted) -> None:
        self._first = self._first or event
        if self._awaited is not None and same(event, self._awaited):
            self._folded.set()

    async def record(self, job: Job, transport: Transport) -> Submitted:
        """Append `submitted`; which one came first, of those that are seen. Raises BrokerUnavailable."""
        self._awaited = Submitted.of(job)
        await transport.append_event(self._awaited)
        try:
            async with asyncio.timeout(RECORD_SECONDS):
                await self._folded.wait()
        except TimeoutError:
            raise BrokerUnavailable(
                f"This frontend did not read its own news within {RECORD_SECONDS:g} s; is it still catching up?"
            ) from None
        return self._first or self._awaited


def same(one: Submitted, other: Submitted) -> bool:
    """Whether it is the same submission, which may be told twice."""
    return (one.frontend, one.at) == (other.frontend, other.at)


class GivenIds:
    """The ids that something is being submitted under here."""

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._claims: dict[str, Claim] = {}

    @asynccontextmanager
    async def claim(self, job_id: str) -> AsyncIterator[Claim]:
        """One after another. What was there before is in the ledger when this begins, the claim sees the rest."""
        if (turn := self._turns.get(job_id)) is None:
            turn = self._turns[job_id] = asyncio.Lock()
        async with turn:
            claim = self._claims[job_id] = Claim()
            try:
                yield claim
            finally:
                del self._claims[job_id]

    def see(self, event: Submitted) -> None:
        """To be called when the event has been folded."""
        if (claim := self._claims.get(event.job_id)) is not None:
            claim.see(event)
