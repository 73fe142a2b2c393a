"""The classic cache: outputs of the nodes of the last prompt."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

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


class ClassicCache:
    """Keeps what the prompt at hand may use again, as ComfyUI's default mode does."""

    def __init__(self) -> None:
        self._entries: dict[CacheKey, Cached] = {}
        self._instances: dict[tuple[str, str], Any] = {}

    def begin(self, keys: Collection[CacheKey], owners: Mapping[str, str]) -> None:
        """Forget what the new prompt does not contain: `keys` are its nodes', `owners` {node id: class}."""
        kept = set(keys)
        self._entries = {
            key: entry
            for key, entry in self._entries.items()
            if key in kept or (entry.ephemeral and owners.get(entry.owner[0]) == entry.owner[1])
        }
        self._instances = {
            owner: instance for owner, instance in self._instances.items() if owners.get(owner[0]) == owner[1]
        }

    def get(self, key: CacheKey) -> Cached | None:
        return self._entries.get(key)

    def set(self, key: CacheKey, entry: Cached) -> None:
        self._entries[key] = entry

    def instance(self, node_id: str, class_type: str, cls: type) -> Any:
        """The node object, made once per (node id, class)."""
        owner = (node_id, class_type)
        instance = self._instances.get(owner)
        if instance is None:
            instance = self._instances[owner] = cls()
        return instance

    def clear(self) -> None:
        self._entries.clear()
        self._instances.clear()
