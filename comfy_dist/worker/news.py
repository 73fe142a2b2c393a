"""What is worth telling only of what lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class News:
    """Told once: after some seconds, before that where somebody asks for it, or never."""

    def __init__(self, seconds: float, tell: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tell = tell
        self._timer = asyncio.get_running_loop().call_later(seconds, self.tell)
        self._telling: asyncio.Task[None] | None = None

    def tell(self) -> None:
        """Now, unless it was told."""
        self._timer.cancel()
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell())

    async def settle(self) -> None:
        """What is not told by now is none; what is being told is waited for."""
        self._timer.cancel()
        if self._telling is not None:
            await self._telling
