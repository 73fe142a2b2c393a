"""How long each node took, as its ComfyUI's progress events tell it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any


class Timings:
    """Folds `progress_state` events: a node is timed from being seen running to being seen otherwise."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._took: dict[str, float] = {}

    def see(self, nodes: Any, now: float | None = None) -> None:
        """`nodes` is the event's {node: {"state": ...}}; `now` in seconds, of any monotonic clock."""
        if not isinstance(nodes, Mapping):
            return
        now = time.monotonic() if now is None else now
        for node, entry in nodes.items():
            running = isinstance(entry, Mapping) and entry.get("state") == "running"
            if running:
                self._began.setdefault(node, now)
            elif node in self._began:
                self._end(node, now)

    def finish(self, now: float | None = None) -> dict[str, float]:
        """Milliseconds by node; what still runs ends now."""
        now = time.monotonic() if now is None else now
        for node in list(self._began):
            self._end(node, now)
        return dict(self._took)

    def _end(self, node: str, now: float) -> None:
        # A node with lazy inputs runs more than once.
        self._took[node] = self._took.get(node, 0.0) + (now - self._began.pop(node)) * 1000
