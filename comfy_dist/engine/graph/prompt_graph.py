"""The prompt as a graph: classes, links and cache keys of its nodes, those of expansions included."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from comfy_dist.engine.graph.cache_keys import CacheKey, add_keys, node_key
from comfy_dist.engine.graph.dynamic_prompt import DynamicPrompt
from comfy_dist.engine.graph.failures import NodeNotFoundError
from comfy_dist.engine.graph.fingerprints import fingerprints
from comfy_dist.engine.graph.links import is_link
from comfy_dist.engine.graph.node_class import InputTypes, NodeClass
from comfy_dist.engine.graph.registry import Definitions


class PromptGraph:
    """What the executor asks about the nodes of the prompt it runs."""

    def __init__(self, prompt: DynamicPrompt, definitions: Definitions) -> None:
        self.prompt = prompt
        self.definitions = definitions
        #: The cache key of each node that was learned.
        self.keys: dict[str, CacheKey] = {}
        self._fingerprints: dict[str, Any] = {}
        self._classes: dict[str, NodeClass] = {}

    async def learn(self, node_ids: Collection[str]) -> None:
        """Work out the cache keys of nodes that are new in the prompt; asks their IS_CHANGED."""
        for node_id in node_ids:
            self.keys.pop(node_id, None)
            self._classes.pop(node_id, None)
        nodes = {node_id: self.prompt.get_node(node_id) for node_id in node_ids}
        self._fingerprints |= await fingerprints(nodes, self.definitions)
        add_keys(self.keys, node_ids, self._node_or_none, self._key_of)

    def class_of(self, node_id: str) -> NodeClass:
        node_class = self._classes.get(node_id)
        if node_class is None:
            name = self.prompt.get_node(node_id)["class_type"]
            node_class = self.definitions.node(name)
            if node_class is None:
                raise NodeNotFoundError(f"There is no node class {name}.")
            self._classes[node_id] = node_class
        return node_class

    def types_of(self, node_id: str) -> InputTypes:
        return self.definitions.input_types(self.class_of(node_id))

    def inputs_of(self, node_id: str) -> dict[str, Any]:
        return self.prompt.get_node(node_id).get("inputs") or {}

    def needed(self, node_id: str) -> list[str]:
        """The nodes that are executed before it: all it links to, but for lazy inputs."""
        lazy = self.types_of(node_id).lazy
        return [value[0] for name, value in self.inputs_of(node_id).items() if is_link(value) and name not in lazy]

    def used(self, node_id: str) -> list[str]:
        """All nodes it links to: it may be called with their outputs, or expand into nodes that are."""
        return [value[0] for value in self.inputs_of(node_id).values() if is_link(value)]

    def is_output(self, node_id: str) -> bool:
        return self.class_of(node_id).is_output

    def is_urgent(self, node_id: str) -> bool:
        node_class = self.class_of(node_id)
        return node_class.is_output or node_class.is_async

    def owner(self, node_id: str) -> tuple[str, str]:
        """The node of the given prompt that it belongs to, and its class."""
        owner = self.prompt.get_real_node_id(node_id)
        return owner, self.prompt.get_node(owner)["class_type"]

    def _node_or_none(self, node_id: str) -> dict[str, Any] | None:
        return self.prompt.get_node(node_id) if self.prompt.has_node(node_id) else None

    def _key_of(self, node_id: str, node: Mapping[str, Any]) -> CacheKey:
        node_class = self.class_of(node_id)
        own_id = node_class.not_idempotent or (
            "UNIQUE_ID" in self.definitions.input_types(node_class).hidden.values()
        )
        return node_key(
            node_class.name,
            node.get("inputs") or {},
            self.keys.__getitem__,
            is_changed=self._fingerprints.get(node_id),
            node_id=node_id if own_id else None,
            scope=self.prompt.get_parent_node_id(node_id),
        )
