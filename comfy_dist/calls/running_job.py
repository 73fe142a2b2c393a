"""The attempt at a job that this process executes, and what is to go when it is over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from comfy_dist.calls.errors import Stopped
from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import EVERYWHERE, Participation, Spread

T = TypeVar("T")

#: What the engine of this process was told of the attempt that it executes, as its worker would tell it (link op
#: "job"); None in one whose engine is told nothing, as a stock ComfyUI's.
told: Mapping[str, Any] | None = None


class RunningJob:
    """Made when a node first asks for it, ended by the worker's word. On the link's loop, but for `at_end`."""

    def __init__(
        self,
        id: str,
        attempt: int,
        call: Mapping[str, Any] | None,
        spread: Mapping[str, Any] | None = None,
    ) -> None:
        self.id = id
        self.attempt = attempt
        #: What makes it a call: a Call as JSON. None: a client's job.
        self.call = call
        self._spread = EVERYWHERE if spread is None else Spread.model_validate(spread)
        #: What those are told who wait for something; None: it goes on.
        self.why_over: ComfyDistError | None = None
        self._waiting: set[asyncio.Task[Any]] = set()
        self._ends: dict[object, Callable[[], object]] = {}
        self._lock = threading.Lock()

    @property
    def root(self) -> str:
        """Id of the client's job that it belongs to, or is."""
        return self.id if self.call is None else str(self.call["root"])

    @property
    def spread(self) -> Spread:
        """Who takes part in its regions. Who was called to help does: else two would wait for each other."""
        if self.call is None:
            return self._spread
        return self._spread.model_copy(update={"participation": Participation.PARTICIPATING})

    @property
    def over(self) -> bool:
        return self.why_over is not None

    def at_end(self, who: object, end: Callable[[], object]) -> None:
        """Call `end` when the attempt is over, unless `forget(who)` comes first. Any thread."""
        with self._lock:
            over = self.over
            if not over:
                self._ends[who] = end
        if over:
            end()

    def forget(self, who: object) -> None:
        self._ends.pop(who, None)

    async def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives. As soon as the attempt is over cancels it, and raises Stopped, or LinkLost where the
        worker was lost."""
        task = asyncio.ensure_future(work)
        if self.over:
            task.cancel()
        self._waiting.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if self.why_over is not None:
                # Several may be told the same: each gets one of its own.
                raise type(self.why_over)(str(self.why_over)) from None
            task.cancel()
            raise
        finally:
            self._waiting.discard(task)

    def end(self, why: ComfyDistError | None = None) -> None:
        """It is over: nobody waits any longer, and nothing of it is left. `why`: by default it was stopped."""
        with self._lock:
            self.why_over = self.why_over or why or Stopped("The job was interrupted.")
        for task in self._waiting:
            task.cancel()
        while self._ends:
            self._ends.pop(next(iter(self._ends)))()
