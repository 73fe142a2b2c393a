"""What ranks hand in: taken at once where it comes with their words, fetched where it lies with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from comfy_dist.calls.asking import Done
from comfy_dist.calls.guests import Guest
from comfy_dist.calls.offered import Values
from comfy_dist.messages import now_ms
from comfy_dist.tensors.errors import NotPulled
from comfy_dist.tensors.packing import at_hand, refs
from comfy_dist.tensors.plane import Plane


class Deliveries:
    """Of one region. On the link's loop."""

    def __init__(
        self,
        plane: Plane,
        received: Callable[[Guest, str, int, Mapping[str, Values], int], None],
        unusable: Callable[[Guest, str, int, Exception], None],
    ) -> None:
        """`received` is told results of a chunk, and since when they were on their way (ms since 1970); `unusable`
        why they cannot be had."""
        self._plane = plane
        self._received = received
        self._unusable = unusable
        self._fetches: set[asyncio.Task[None]] = set()

    def take(self, guest: Guest, call: str, done: Done) -> None:
        """Have the results: now where they are written out, else they are fetched beside."""
        try:
            if (results := at_hand(done.results)) is not None:
                self._give(guest, call, done.chunk, results, now_ms())
                return
        except Exception as error:  # noqa: BLE001 - no memory for it, say: whatever it is, others do the chunk
            self._unusable(guest, call, done.chunk, error)
            return
        task = asyncio.create_task(self._fetch(guest, call, done))
        for tasks in (self._fetches, guest.fetching):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def close(self) -> None:
        """The region is over: nothing is wanted any more."""
        for task in self._fetches:
            task.cancel()

    async def _fetch(self, guest: Guest, call: str, done: Done) -> None:
        began = now_ms()
        try:
            self._give(guest, call, done.chunk, await self._plane.unpack(done.results), began)
        except Exception as error:  # noqa: BLE001 - as in take()
            self._unusable(guest, call, done.chunk, error)
            return
        for ref in refs(done.results):
            await self._plane.drop(ref)

    def _give(self, guest: Guest, call: str, index: int, results: Mapping[str, Values], began: int) -> None:
        """Raises NotPulled for what are no results."""
        if not all(isinstance(values, list) for values in results.values()):
            raise NotPulled("its results are no lists")
        self._received(guest, call, index, results, began)
