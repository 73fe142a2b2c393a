"""An event loop in a thread of its own: what waits for others goes on while a node computes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """A daemon thread, running from the first until `close`. `loop` is its loop."""

    def __init__(self, name: str) -> None:
        # Not uvloop, where a process has it: sending tensors takes connections over, which it does not let go.
        self._runner = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)
        self._stop = asyncio.Event()
        self.loop = self._runner.get_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives, run there and awaited on any loop; cancelled with who awaits it."""
        if asyncio.get_running_loop() is self.loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_noted(work), self.loop))

    def close(self) -> None:
        """End the loop, and what still runs on it. Not from the thread itself."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _run(self) -> None:
        with self._runner:
            self._runner.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        await self._stop.wait()


async def _noted(work: Coroutine[Any, Any, T]) -> T:
    """The work; how it ends is no news to asyncio where who awaited it was cancelled in the same moment."""
    task = asyncio.current_task()
    assert task is not None
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return await work
