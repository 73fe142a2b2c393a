"""Keeps what the last prompt used: ComfyUI's default."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from comfy_dist.engine.graph.cache_keys import CacheKey
from comfy_dist.engine.graph.caches.protocol import Cached


class ClassicCache:
    """Forgets, when a prompt begins, what that prompt does not contain."""

    def __init__(self) -> None:
        self._entries: dict[CacheKey, Cached] = {}

    def begin(self, keys: Collection[CacheKey], owners: Mapping[str, str]) -> None:
        kept = set(keys)
        self._entries = {
            key: entry
            for key, entry in self._entries.items()
            if key in kept or (entry.ephemeral and owners.get(entry.owner[0]) == entry.owner[1])
        }

    def get(self, key: CacheKey) -> Cached | None:
        return self._entries.get(key)

    def set(self, key: CacheKey, entry: Cached) -> None:
        self._entries[key] = entry

    def clear(self) -> None:
        self._entries.clear()
