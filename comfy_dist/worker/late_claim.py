"""The claim of what is begun before it is claimed: a call of which only counts what its session was given.

The session tells attempts apart, so two who execute the same do no harm, and a rank need not wait until its claim
comes back. It is made all the same where the call lasts, as it says whose it is should it be delivered again, and
before anything is told of it but that it was done.
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

    def __init__(self, attempt: int, claim: Callable[[], Awaitable[Verdict]], lost: Callable[[], object]) -> None:
        """`attempt`: its number. `lost` is called where it turns out to be somebody else's."""
        self._attempt = attempt
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
        if verdict != Free(self._attempt):
            self._lost()
        return verdict
