"""The order of execution: which node is next.

Sources come first. Among the nodes that are ready, output and async nodes go first, then those that feed an
output node, then those one step further, then in the order they were found: ComfyUI's order, but each pick
costs a logarithm, not a scan.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

Sources = Callable[[str], Iterable[str]]


class ExecutionOrder:
    """The nodes still to execute and what holds each of them back."""

    def __init__(
        self,
        sources: Sources,
        is_cached: Callable[[str], bool],
        is_urgent: Callable[[str], bool],
        is_output: Callable[[str], bool],
    ) -> None:
        self._sources = sources
        self._is_cached = is_cached
        self._is_urgent = is_urgent
        self._is_output = is_output
        #: Nodes not yet done, with their place in the order they were found.
        self._pending: dict[str, int] = {}
        self._found = 0
        self._blocks: dict[str, int] = {}
        self._blocking: dict[str, dict[str, None]] = {}
        #: (rank, place, node id); a node stands there more than once where its rank has changed.
        self._ready: list[tuple[int, int, str]] = []
        self._feeds: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._pending)

    def add(self, *node_ids: str) -> None:
        """Add nodes and what they depend on, but for what is cached."""
        changed: dict[str, None] = {}
        links: list[tuple[str, str]] = []
        for node_id in node_ids:
            stack = [node_id]
            while stack:
                here = stack.pop()
                changed[here] = None
                if here in self._pending:
                    continue
                self._pending[here] = self._found
                self._found += 1
                self._blocks[here] = 0
                self._blocking[here] = {}
                for source in self._sources(here):
                    if not self._is_cached(source):
                        stack.append(source)
                        links.append((source, here))
        for source, here in links:
            self._block(source, here)
        # Those that were there before come again by their new rank.
        for each in changed:
            self._offer(each)

    def depend(self, node_id: str, source: str) -> None:
        """`node_id`, taken but not done, needs `source` too."""
        if self._is_cached(source):
            return
        self.add(source)
        self._block(source, node_id)
        self._offer(source)

    def take(self) -> str | None:
        """The next node to execute, or None when all that are left wait for others."""
        while self._ready:
            _, _, node_id = heapq.heappop(self._ready)
            if node_id in self._pending and not self._blocks[node_id]:
                return node_id
        return None

    def hold(self, node_id: str) -> None:
        """Keep a taken node back until `release`: something outside the graph is not done."""
        self._blocks[node_id] += 1

    def release(self, node_id: str) -> None:
        self._blocks[node_id] -= 1
        self._offer(node_id)

    def give_back(self, node_id: str) -> None:
        """A taken node is not done: it comes again when what it depends on is."""
        self._offer(node_id)

    def done(self, node_id: str) -> None:
        del self._pending[node_id]
        for blocked in self._blocking.pop(node_id):
            self._blocks[blocked] -= 1
            self._offer(blocked)

    def cycle(self) -> list[str]:
        """Where nothing is ready: the nodes that wait for each other, found by removing all others."""
        blocks = dict.fromkeys(self._pending, 0)
        for source in self._pending:
            for blocked in self._blocking[source]:
                blocks[blocked] += 1
        free = [node_id for node_id, count in blocks.items() if not count]
        for source in free:
            for blocked in self._blocking[source]:
                blocks[blocked] -= 1
                if not blocks[blocked]:
                    free.append(blocked)
        gone = set(free)
        return [node_id for node_id in self._pending if node_id not in gone]

    def _block(self, source: str, node_id: str) -> None:
        if node_id not in self._blocking[source]:
            self._blocking[source][node_id] = None
            self._blocks[node_id] += 1
            self._feeds.pop(source, None)

    def _offer(self, node_id: str) -> None:
        if not self._blocks[node_id]:
            heapq.heappush(self._ready, (self._rank(node_id), self._pending[node_id], node_id))

    def _rank(self, node_id: str) -> int:
        if self._is_urgent(node_id):
            return 0
        if self._feeds_output(node_id):
            return 1
        return 2 if any(self._feeds_output(each) for each in self._blocking[node_id]) else 3

    def _feeds_output(self, node_id: str) -> bool:
        known = self._feeds.get(node_id)
        if known is None:
            known = self._feeds[node_id] = any(self._is_output(each) for each in self._blocking[node_id])
        return known
