"""Node expansion: a node returns a graph that is executed in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfy_dist.engine.graph.dynamic_prompt import DynamicPrompt
from comfy_dist.engine.graph.failures import (
    DuplicateNodeError,
    ExpansionLimitError,
    NodeInputError,
    NodeNotFoundError,
)
from comfy_dist.engine.graph.inputs import OutputsOf
from comfy_dist.engine.graph.links import is_link
from comfy_dist.engine.graph.mapping import Values, spread
from comfy_dist.engine.graph.registry import Definitions

#: Expansions inside each other, and nodes that a prompt's expansions add: far beyond loops that people build.
DEEPEST = 1_000
MOST_NODES = 100_000


@dataclass(frozen=True, slots=True)
class Expansion:
    """What one call returned: nodes to execute, and results that may link into them."""

    #: None where this call expanded nothing; its result is final.
    graph: dict[str, Any] | None
    result: tuple[Any, ...]

    @property
    def sources(self) -> list[str]:
        """The nodes its results link to."""
        return [] if self.graph is None else [value[0] for value in self.result if is_link(value)]


def add_expansion(
    prompt: DynamicPrompt, node_id: str, expansion: Expansion, definitions: Definitions, added: dict[str, None]
) -> list[str]:
    """Add the expansion's nodes to the prompt, shown under `node_id`; the output nodes among them.

    `added` are the nodes of the node's other calls, in order; these join them. A node that is executed once more,
    as its outputs were not kept, puts its nodes in the place of those of the time before.

    Raises DuplicateNodeError, ExpansionLimitError, TypeError, or NodeNotFoundError for a class that is not there.
    """
    graph = expansion.graph or {}
    if not isinstance(graph, dict):
        raise TypeError(f"The node's expand is of type {type(graph).__name__}; it must be a dict of nodes.")
    class_type = prompt.get_node(node_id)["class_type"]
    if prompt.depth(node_id) >= DEEPEST:
        raise ExpansionLimitError(
            f"{class_type} expands without end: {DEEPEST} expansions lie inside each other. Its condition to stop "
            "is never met."
        )
    nodes = len(prompt.ephemeral_prompt) + len(graph)
    if nodes > MOST_NODES:
        raise ExpansionLimitError(
            f"The expansions of this prompt come to {nodes} nodes with this one of {class_type}; {MOST_NODES} are "
            "the most."
        )
    outputs: list[str] = []
    for new_id, node in graph.items():
        again = prompt.get_parent_node_id(new_id) == node_id and new_id not in added
        if prompt.has_node(new_id) and not again:
            raise DuplicateNodeError(
                f"Attempt to add duplicate node {new_id}. Ensure node ids are unique and deterministic or use "
                "graph_utils.GraphBuilder."
            )
        if not isinstance(node, dict) or not isinstance(node.setdefault("inputs", {}), dict):
            raise TypeError(
                f"{class_type} expands into a node {new_id} that is no node; it must be "
                '{"class_type": ..., "inputs": {...}}.'
            )
        node_class = definitions.node(node.get("class_type"))
        if node_class is None:
            raise NodeNotFoundError(f"{class_type} expands into {node.get('class_type')}, which does not exist.")
        added[new_id] = None
        prompt.add_ephemeral_node(new_id, node, node_id, node.get("override_display_id", node_id))
        if node_class.is_output:
            outputs.append(new_id)
    return outputs


def resolve(expansion: Expansion, output_is_list: tuple[bool, ...], outputs_of: OutputsOf) -> list[Values]:
    """The values of each output, every link replaced by what the node it names has given."""
    if expansion.graph is None:
        return spread(expansion.result, output_is_list)
    resolved: list[Values] = []
    for index, value in enumerate(expansion.result):
        if not is_link(value):
            resolved += spread((value,), output_is_list[index : index + 1])
            continue
        outputs = outputs_of(value[0])
        if outputs is None or value[1] >= len(outputs):
            raise NodeInputError(
                f"The expansion's result {index} links to output {value[1]} of node {value[0]}, which gave "
                f"{len(outputs or ())} outputs."
            )
        values = outputs[value[1]]
        # One list that came as a value is a list output's items; several values are those items already.
        single = len(values) == 1 and isinstance(values[0], (list, tuple))
        resolved += spread((values[0],), output_is_list[index : index + 1]) if single else [values]
    return resolved
