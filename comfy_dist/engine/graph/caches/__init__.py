"""Caches: outputs that another prompt may use again.

What the running prompt still needs is held by its execution (`held.py`), so a cache may drop anything at any time.
"""

from __future__ import annotations

from comfy_dist.engine.graph.cache_mode import CacheMode
from comfy_dist.engine.graph.caches.classic import ClassicCache
from comfy_dist.engine.graph.caches.lru import LruCache
from comfy_dist.engine.graph.caches.none import NoCache
from comfy_dist.engine.graph.caches.protocol import Cache, Cached
from comfy_dist.engine.graph.caches.ram import RamCache

__all__ = ["Cache", "Cached", "make_cache"]


def make_cache(mode: CacheMode) -> Cache:
    match mode.kind:
        case "classic":
            return ClassicCache()
        case "none":
            return NoCache()
        case "lru":
            return LruCache(int(mode.limit or 0))
        case "ram":
            return RamCache(int((mode.limit or 0) * 1e9))
