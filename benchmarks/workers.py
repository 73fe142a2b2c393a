"""The workers of a cluster, as a frontend shows them: some work, the others rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeAlias

import aiohttp

from benchmarks.servers import START_SECONDS

#: As GET /distributed/workers shows them.
Shown: TypeAlias = list[dict[str, Any]]


class Workers:
    """Asks a frontend about them."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def __aenter__(self) -> Self:
        self._session = await aiohttp.ClientSession().__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def work_with(self, working: Sequence[str], resting: Sequence[str]) -> None:
        for deed, names in (("resume", working), ("pause", resting)):
            for name in names:
                told = self._session.post(f"{self._address}/distributed/{deed}", json={"worker": name})
                async with told as answer:
                    answer.raise_for_status()
        paused = set(resting)
        await self.until(lambda found: {each["name"] for each in found if each["paused"]} == paused)

    async def all_idle(self, count: int) -> None:
        await self.until(lambda found: sum(each["state"] == "idle" for each in found) == count)

    async def until(self, is_so: Callable[[Shown], bool]) -> None:
        """Wait until that is true of the workers."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                async with self._session.get(f"{self._address}/distributed/workers") as answer:
                    if is_so((await answer.json())["workers"]):
                        return
                await asyncio.sleep(0.2)
