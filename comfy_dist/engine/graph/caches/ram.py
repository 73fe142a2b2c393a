"""Keeps outputs while enough main memory is available."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from comfy_dist.engine.graph.cache_keys import CacheKey
from comfy_dist.engine.graph.caches.protocol import Cached
from comfy_dist.engine.graph.memory_use import main_memory_of
from comfy_dist.memory import main_memory


@dataclass(slots=True)
class _Entry:
    cached: Cached
    #: Bytes of main memory.
    size: int
    #: The number of the last prompt that used it.
    prompt: int


class RamCache:
    """Keeps `headroom` bytes of main memory available.

    The rule: when a prompt begins, and whenever a node has given its outputs, the available memory is looked at.
    If some is missing, entries go until their sizes make up for it: those of the prompt that lies longest back
    first, and of one prompt's the largest first. The running prompt's own come last, and those that it still needs
    live on until their nodes have run. Where the system does not tell what is available, nothing is evicted.
    """

    def __init__(self, headroom: int, available: Callable[[], int] | None = None) -> None:
        self._headroom = headroom
        self._available = available or _available
        self._entries: dict[CacheKey, _Entry] = {}
        self._prompt = 0

    def begin(self, keys: Collection[CacheKey], owners: Mapping[str, str]) -> None:
        self._prompt += 1
        self._use(keys)
        self._make_room()

    def expand(self, owner: tuple[str, str], keys: Collection[CacheKey]) -> None:
        self._use(keys)

    def get(self, key: CacheKey) -> Cached | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry.prompt = self._prompt
        return entry.cached

    def set(self, key: CacheKey, entry: Cached) -> None:
        self._entries[key] = _Entry(entry, main_memory_of(entry.outputs), self._prompt)
        self._make_room()

    def clear(self) -> None:
        self._entries.clear()

    def _use(self, keys: Collection[CacheKey]) -> None:
        for key in keys:
            if key in self._entries:
                self._entries[key].prompt = self._prompt

    def _make_room(self) -> None:
        missing = self._headroom - self._available()
        if missing <= 0:
            return
        oldest_first = sorted(self._entries, key=lambda key: (self._entries[key].prompt, -self._entries[key].size))
        for key in oldest_first:
            missing -= self._entries.pop(key).size
            if missing <= 0:
                return


def _available() -> int:
    total, available = main_memory()
    return available if total else 1 << 62
