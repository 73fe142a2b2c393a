"""Node expansion: a node returns a graph that is executed in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfy_dist.engine.graph.dynamic_prompt import DynamicPrompt
from comfy_dist.engine.graph.inputs import OutputsOf
from comfy_dist.engine.graph.links import is_link
from comfy_dist.engine.graph.registry import Definitions


class DuplicateNodeError(Exception):
    """An expansion adds a node id that is there already."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """What one call returned: nodes to execute, and results that may link into them."""

    #: None where this call expanded nothing; its result is final.
    graph: dict[str, Any] | None
    result: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Added:
    """What an expansion added to the prompt."""

    nodes: tuple[str, ...]
    #: Those of them that are output nodes.
    outputs: tuple[str, ...]
    #: The nodes its results link to.
    sources: tuple[str, ...]


def add_expansion(prompt: DynamicPrompt, node_id: str, expansion: Expansion, definitions: Definitions) -> Added:
    """Add the expansion's nodes to the prompt, shown under `node_id`.

    Raises DuplicateNodeError, or KeyError where it names a class that is not there.
    """
    if expansion.graph is None:
        return Added((), (), ())
    outputs: list[str] = []
    for new_id, node in expansion.graph.items():
        if prompt.has_node(new_id):
            raise DuplicateNodeError(
                f"Attempt to add duplicate node {new_id}. Use GraphBuilder, or ids that are unique and "
                "the same in each run."
            )
        node_class = definitions.node(node["class_type"])
        if node_class is None:
            raise KeyError(f"Node {node_id} expands into {node['class_type']}, which does not exist.")
        prompt.add_ephemeral_node(new_id, node, node_id, node.get("override_display_id", node_id))
        if node_class.is_output:
            outputs.append(new_id)
    sources = tuple(value[0] for value in expansion.result if is_link(value))
    return Added(tuple(expansion.graph), tuple(outputs), sources)


def resolve(expansion: Expansion, outputs_of: OutputsOf) -> tuple[Any, ...]:
    """The results with every link replaced by what the node it names has given."""
    if expansion.graph is None:
        return expansion.result
    values: list[Any] = []
    for value in expansion.result:
        if is_link(value):
            outputs = outputs_of(value[0])
            if outputs is None:
                raise KeyError(f"The expansion's result links to node {value[0]}, which gave nothing.")
            values.extend(outputs[value[1]])
        else:
            values.append(value)
    return tuple(values)
