"""Keeps nothing: every node is executed each time."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from comfy_dist.engine.graph.cache_keys import CacheKey
from comfy_dist.engine.graph.caches.protocol import Cached


class NoCache:
    """Least memory. An output ends with the last node of its prompt that needs it.

    A node whose output has ended is executed again where an expansion, or a lazy input, needs it after all.
    """

    def begin(self, keys: Collection[CacheKey], owners: Mapping[str, str]) -> None:
        """Nothing is there to forget."""

    def expand(self, owner: tuple[str, str], keys: Collection[CacheKey]) -> None:
        """Nor is there anything to find."""

    def get(self, key: CacheKey) -> Cached | None:
        return None

    def set(self, key: CacheKey, entry: Cached) -> None:
        """Not kept."""

    def clear(self) -> None:
        """Nothing is there."""
