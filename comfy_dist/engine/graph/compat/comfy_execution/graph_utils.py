"""`comfy_execution.graph_utils`: building the graphs that nodes expand into."""

from __future__ import annotations

from typing import Any

from comfy_dist.engine.graph.links import ExecutionBlocker, is_link
from comfy_dist.engine.graph.running import current_call, next_graph_number

__all__ = ["ExecutionBlocker", "GraphBuilder", "Node", "add_graph_prefix", "is_link"]


class Node:
    """A node of a graph under construction."""

    def __init__(self, id: str, class_type: str, inputs: dict[str, Any]) -> None:
        self.id = id
        self.class_type = class_type
        self.inputs = inputs
        self.override_display_id: str | None = None

    def out(self, index: int) -> list[Any]:
        """A link to its output `index`."""
        return [self.id, index]

    def get_input(self, key: str) -> Any:
        return self.inputs.get(key)

    def set_input(self, key: str, value: Any) -> None:
        """Set an input; None takes it away."""
        if value is None:
            self.inputs.pop(key, None)
        else:
            self.inputs[key] = value

    def set_override_display_id(self, override_display_id: str) -> None:
        self.override_display_id = override_display_id

    def serialize(self) -> dict[str, Any]:
        node: dict[str, Any] = {"class_type": self.class_type, "inputs": self.inputs}
        if self.override_display_id is not None:
            node["override_display_id"] = self.override_display_id
        return node


class GraphBuilder:
    """Names nodes so that they are unique, and the same each time the same node expands."""

    def __init__(self, prefix: str | None = None) -> None:
        self.prefix = GraphBuilder.alloc_prefix() if prefix is None else prefix
        self.nodes: dict[str, Node] = {}
        self.id_gen = 1

    @classmethod
    def alloc_prefix(
        cls, root: str | None = None, call_index: int | None = None, graph_index: int | None = None
    ) -> str:
        node_id, index = current_call.get()
        if graph_index is None:
            graph_index = next_graph_number()
        return f"{node_id if root is None else root}.{index if call_index is None else call_index}.{graph_index}."

    def node(self, class_type: str, id: str | None = None, **inputs: Any) -> Node:
        """The node of that id, made if there is none yet."""
        if id is None:
            id = str(self.id_gen)
            self.id_gen += 1
        full_id = self.prefix + id
        if full_id not in self.nodes:
            self.nodes[full_id] = Node(full_id, class_type, inputs)
        return self.nodes[full_id]

    def lookup_node(self, id: str) -> Node | None:
        return self.nodes.get(self.prefix + id)

    def remove_node(self, id: str) -> None:
        del self.nodes[self.prefix + id]

    def replace_node_output(self, node_id: str, index: int, new_value: Any) -> None:
        """Put `new_value` wherever output `index` of the node is linked; None takes those inputs away."""
        full_id = self.prefix + node_id
        for node in self.nodes.values():
            for key, value in list(node.inputs.items()):
                if is_link(value) and value[0] == full_id and value[1] == index:
                    node.set_input(key, new_value)

    def finalize(self) -> dict[str, Any]:
        """The graph, as `expand` takes it."""
        return {node_id: node.serialize() for node_id, node in self.nodes.items()}


def add_graph_prefix(
    graph: dict[str, Any], outputs: list[Any], prefix: str
) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """The graph and its outputs with `prefix` before every node id."""

    def renamed(value: Any) -> Any:
        return [prefix + value[0], value[1]] if is_link(value) else value

    nodes = {
        prefix + node_id: {
            "class_type": node["class_type"],
            "inputs": {key: renamed(value) for key, value in node.get("inputs", {}).items()},
        }
        for node_id, node in graph.items()
    }
    return nodes, tuple(renamed(value) for value in outputs)
