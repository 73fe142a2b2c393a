"""Calls a lane away from its wait for a job, because something else is to be done first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Attention:
    """Without a task for each thing that may come first: who has it calls."""

    def __init__(self) -> None:
        self._called = False
        self._waiting: asyncio.Timeout | None = None

    def call(self) -> None:
        """End the wait that goes on, or else the next one."""
        self._called = True
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(asyncio.get_running_loop().time())

    def heed(self) -> None:
        """Everything that was called for until now is about to be looked at."""
        self._called = False

    async def unless_called(self, wait: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """What comes of the wait; None where a call came first, which cancels it."""
        if self._called:
            return None
        try:
            async with asyncio.timeout(None) as self._waiting:
                return await wait()
        except TimeoutError:
            if not self._called:
                raise
            return None
        finally:
            self._waiting = None
