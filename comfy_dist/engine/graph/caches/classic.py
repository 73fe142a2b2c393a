"""Keeps what the last prompt used: ComfyUI's default."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from comfy_dist.engine.graph.cache_keys import CacheKey
from comfy_dist.engine.graph.caches.protocol import Cached


class ClassicCache:
    """Forgets, when a prompt begins, what that prompt does not contain.

    Of a node that expanded in the prompt before, what that expansion contained stays; of one that did not need to,
    what it contained when it last did.
    """

    def __init__(self) -> None:
        self._entries: dict[CacheKey, Cached] = {}
        #: By owner, the nodes of its expansions in the prompt at hand.
        self._expanded: dict[tuple[str, str], set[CacheKey]] = {}

    def begin(self, keys: Collection[CacheKey], owners: Mapping[str, str]) -> None:
        kept = set(keys)
        self._entries = {
            key: entry
            for key, entry in self._entries.items()
            if key in kept
            or (
                entry.ephemeral
                and owners.get(entry.owner[0]) == entry.owner[1]
                and key in self._expanded.get(entry.owner, (key,))
            )
        }
        self._expanded.clear()

    def expand(self, owner: tuple[str, str], keys: Collection[CacheKey]) -> None:
        self._expanded.setdefault(owner, set()).update(keys)

    def get(self, key: CacheKey) -> Cached | None:
        return self._entries.get(key)

    def set(self, key: CacheKey, entry: Cached) -> None:
        self._entries[key] = entry

    def clear(self) -> None:
        self._entries.clear()
        self._expanded.clear()
