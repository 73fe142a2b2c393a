"""The node objects: made once per (node id, class), kept from one prompt to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Instances:
    """Objects of node classes, which may keep things of their own between prompts."""

    def __init__(self) -> None:
        self._objects: dict[tuple[str, str], Any] = {}
        #: The prompt's node that each belongs to, with its class; of an expanded node, the one that expanded.
        self._owners: dict[tuple[str, str], tuple[str, str]] = {}

    def begin(self, owners: Mapping[str, str]) -> None:
        """Forget those of nodes that the new prompt does not contain: {node id: class}."""
        gone = [key for key, (node_id, class_type) in self._owners.items() if owners.get(node_id) != class_type]
        for key in gone:
            del self._objects[key]
            del self._owners[key]

    def get(self, node_id: str, class_type: str, cls: type, owner: tuple[str, str]) -> Any:
        """The node's object. Raises what its __init__ raises."""
        key = (node_id, class_type)
        instance = self._objects.get(key)
        if instance is None:
            instance = self._objects[key] = cls()
            self._owners[key] = owner
        return instance

    def clear(self) -> None:
        self._objects.clear()
        self._owners.clear()
