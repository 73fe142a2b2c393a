"""The claim of what is begun before it is claimed: a call of which only counts what its session was given.

Only who is the first to have it may begin so, as attempt 1. Whoever has it after that claims attempt 2 at least
before it begins, and the session heeds the later attempt; so a rank need not wait until its claim comes back. That
is made all the same where the call lasts, as it says whose it is should it be delivered again, and before anything
is told of it but that it was done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType

from comfy_dist.claims import Free, Verdict

#: Seconds after which it is made. Most regions have ended by then, and of those no fact is told at all.
CLAIM_SECONDS = 1.0


class LateClaim:
    """Of an attempt that goes on while it is entered."""

    ATTEMPT = 1

    def __init__(self, claim: Callable[[], Awaitable[Verdict]], lost: Callable[[], object]) -> None:
        """`lost` is called where it turns out to be somebody else's."""
        self._claim = claim
        self._lost = lost
        self._timer = asyncio.get_running_loop().call_later(CLAIM_SECONDS, self._make)
        self._making: asyncio.Task[Verdict] | None = None

    def __enter__(self) -> LateClaim:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._timer.cancel()
        if self._making is not None:
            self._making.cancel()

    def drop(self) -> bool:
        """Whether it was not made, and never will be."""
        self._timer.cancel()
        return self._making is None

    async def verdict(self) -> Verdict:
        """What came of it; it is made now, unless it was."""
        return await self._make()

    def _make(self) -> asyncio.Task[Verdict]:
        self._timer.cancel()
        if self._making is None:
            self._making = asyncio.create_task(self._claimed())
        return self._making

    async def _claimed(self) -> Verdict:
        verdict = await self._claim()
        if verdict != Free(self.ATTEMPT):
            self._lost()
        return verdict
