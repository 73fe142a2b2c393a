"""Keeps the outputs of a number of nodes, whichever prompts they come from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping

from comfy_dist.engine.graph.cache_keys import CacheKey
from comfy_dist.engine.graph.caches.protocol import Cached


class LruCache:
    """Down to `limit` entries when a prompt begins, least recently used first out.

    As in ComfyUI, what belongs to that prompt stays even beyond the limit: a prompt of more nodes than that can be
    cached whole.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        #: Least recently used first.
        self._entries: OrderedDict[CacheKey, Cached] = OrderedDict()

    def begin(self, keys: Collection[CacheKey], owners: Mapping[str, str]) -> None:
        used = self._use(keys)
        for _ in range(min(len(self._entries) - self._limit, len(self._entries) - len(set(used)))):
            self._entries.popitem(last=False)

    def expand(self, owner: tuple[str, str], keys: Collection[CacheKey]) -> None:
        self._use(keys)

    def get(self, key: CacheKey) -> Cached | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def set(self, key: CacheKey, entry: Cached) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)

    def clear(self) -> None:
        self._entries.clear()

    def _use(self, keys: Collection[CacheKey]) -> list[CacheKey]:
        """Those that are there, now the most recently used."""
        used = [key for key in keys if key in self._entries]
        for key in used:
            self._entries.move_to_end(key)
        return used
