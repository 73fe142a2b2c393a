"""The prompt while it executes: the given nodes and those that expansions added. Nodes see it as DYNPROMPT."""

from __future__ import annotations

from typing import Any

from comfy_dist.engine.graph.failures import NodeNotFoundError


class DynamicPrompt:
    """Nodes by id. Method names are ComfyUI's, as nodes call them."""

    def __init__(self, original_prompt: dict[str, Any]) -> None:
        self.original_prompt = original_prompt
        self.ephemeral_prompt: dict[str, Any] = {}
        self.ephemeral_parents: dict[str, str] = {}
        self.ephemeral_display: dict[str, str] = {}
        self._real: dict[str, str] = {}
        self._depths: dict[str, int] = {}

    def get_node(self, node_id: str) -> dict[str, Any]:
        node = self.original_prompt.get(node_id) or self.ephemeral_prompt.get(node_id)
        if node is None:
            raise NodeNotFoundError(f"Node {node_id} not found")
        return node  # type: ignore[no-any-return]

    def has_node(self, node_id: str) -> bool:
        return node_id in self.original_prompt or node_id in self.ephemeral_prompt

    def add_ephemeral_node(self, node_id: str, node: dict[str, Any], parent_id: str, display_id: str) -> None:
        self.ephemeral_prompt[node_id] = node
        self.ephemeral_parents[node_id] = parent_id
        self.ephemeral_display[node_id] = display_id
        self._real[node_id] = self.get_real_node_id(parent_id)
        self._depths[node_id] = self.depth(parent_id) + 1

    def get_real_node_id(self, node_id: str) -> str:
        """The node of the given prompt from which this one came."""
        return self._real.get(node_id, node_id)

    def depth(self, node_id: str) -> int:
        """How many expansions lie between the given prompt and this node."""
        return self._depths.get(node_id, 0)

    def get_parent_node_id(self, node_id: str) -> str | None:
        return self.ephemeral_parents.get(node_id)

    def get_display_node_id(self, node_id: str) -> str:
        """The node under which clients show this one. Expansions name it freely, so it may lead in a circle."""
        seen: set[str] = set()
        while node_id in self.ephemeral_display and node_id not in seen:
            seen.add(node_id)
            node_id = self.ephemeral_display[node_id]
        return node_id

    def all_node_ids(self) -> set[str]:
        return {*self.original_prompt, *self.ephemeral_prompt}

    def get_original_prompt(self) -> dict[str, Any]:
        return self.original_prompt
