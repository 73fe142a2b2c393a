"""What is told of a region under way: how far it is, and its timeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

#: Seconds after which a result is told, with those that follow at once.
TELL_SECONDS = 0.05


class Report:
    """Of one region. On the link's loop."""

    def __init__(
        self, node: str, tell: Callable[..., object] | None, counts: Callable[[], Mapping[str, int]]
    ) -> None:
        """`tell`: Here.tell of this process. `counts`: how many items there are, and how many are done."""
        self._node = node
        self._tell = tell
        self._counts = counts
        self._spans: list[dict[str, Any]] = []
        self._timer: asyncio.TimerHandle | None = None

    def note(self, kind: str, worker: str, rank: int, index: int, start: int, stop: int) -> None:
        """For the timeline (messages/trace.py): when something was done for a chunk, in ms since 1970 by this
        process's clock, whatever the ranks' say. It is told with the next result."""
        about = {"name": f"chunk {index}", "worker": worker, "rank": rank, "node": self._node}
        self._spans.append({"kind": kind, "start": start, "stop": stop, **about})

    def soon(self) -> None:
        """There is a result more."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TELL_SECONDS, self.now)

    def now(self) -> None:
        """Tell what has not been told."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        spans, self._spans = self._spans, []
        if self._tell is not None:
            self._tell("chunks", node=self._node, spans=spans, **self._counts())

    def close(self) -> None:
        """The region is over: all is told where it has ended well, and where not another job may run here now."""
        if self._timer is not None:
            self._timer.cancel()
