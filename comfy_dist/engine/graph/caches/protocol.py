"""What a cache is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from comfy_dist.engine.graph.cache_keys import CacheKey


@dataclass(slots=True)
class Cached:
    """What a node gave: one list of values per output, and what it showed."""

    outputs: list[list[Any]]
    ui: dict[str, Any] | None
    #: (id, class) of the prompt's node it belongs to; of an expanded node, the one that expanded.
    owner: tuple[str, str]
    #: Whether it came from an expansion: such nodes stand in no prompt, and stay as long as their owner.
    ephemeral: bool = False


class Cache(Protocol):
    """The outputs of nodes, by what they depend on."""

    def begin(self, keys: Collection[CacheKey], owners: Mapping[str, str]) -> None:
        """A prompt begins: `keys` are its nodes', `owners` {node id: class}."""
        ...

    def expand(self, owner: tuple[str, str], keys: Collection[CacheKey]) -> None:
        """A node has expanded, itself or one of its expansion: `keys` are the new nodes', `owner` as in Cached."""
        ...

    def get(self, key: CacheKey) -> Cached | None: ...

    def set(self, key: CacheKey, entry: Cached) -> None: ...

    def clear(self) -> None: ...
