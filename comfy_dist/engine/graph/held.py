"""The outputs that the running prompt still needs."""

from __future__ import annotations

from collections.abc import Iterable

from comfy_dist.engine.graph.caches.protocol import Cached


class HeldOutputs:
    """What nodes gave, each held until the last node that uses it is done.

    Beside the cache this is the only reference, so what a cache does not keep ends here.
    """

    def __init__(self) -> None:
        self._held: dict[str, Cached] = {}
        #: How many nodes that are not done use each node's outputs.
        self._users: dict[str, int] = {}

    def get(self, node_id: str) -> Cached | None:
        return self._held.get(node_id)

    def hold(self, node_id: str, entry: Cached) -> None:
        """Keep it if a node uses it."""
        if self._users.get(node_id):
            self._held[node_id] = entry

    def use(self, sources: Iterable[str]) -> None:
        """One more node uses each of them."""
        for source in sources:
            self._users[source] = self._users.get(source, 0) + 1

    def release(self, sources: Iterable[str]) -> None:
        """A node that used them is done."""
        for source in sources:
            self._users[source] -= 1
            if not self._users[source]:
                del self._users[source]
                self._held.pop(source, None)
