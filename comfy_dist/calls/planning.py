"""What an engine is given in place of a prompt with Cluster nodes: the plan. A pure function.

A plan adds, and takes nothing away: a Run node for each region (nodes/cluster/hidden.py), inlined pieces for each
UseSubgraph, and one input, `results`, to those nodes that are to hand on what was made in their place: closing
nodes, Listens and UseSubgraphs. Without it each of them does its work where it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comfy_dist.calls.classes import CLOSERS, PASSING, RUNS
from comfy_dist.calls.links import RESULTS, class_of, inputs_of, is_link


@dataclass(frozen=True, slots=True)
class Planned:
    """A prompt that is ready to be executed by many."""

    #: Shares the nodes that are unchanged with the prompt that was planned.
    prompt: dict[str, Any]
    #: The output nodes to execute. Those inside of regions are not among them.
    targets: tuple[str, ...]
    #: Nodes that were added, and the ids under which clients see them.
    shown: dict[str, str]


def plan(
    prompt: Mapping[str, Any], nodes_info: Mapping[str, Mapping[str, Any]], targets: Sequence[str]
) -> Planned | None:
    """The plan of `prompt`, or None where there is nothing to plan.

    `nodes_info` is ComfyUI's /object_info; `targets` are the output nodes to execute, all of them if there are none.
    What is already planned is planned anew. Never changes its arguments; work and memory are linear in the size of
    the prompt and what is inlined. Nodes and links that make no sense are left to validation.

    Raises RegionError for a graph that cannot be split.
    """
    raise NotImplementedError


def restore(prompt: Mapping[str, Any]) -> dict[str, Any]:
    """The prompt that was planned: people load prompts from saved pictures, as they were executed."""
    restored: dict[str, Any] = {}
    for node_id, node in prompt.items():
        if class_of(node) in RUNS or (isinstance(node, Mapping) and "override_display_id" in node):
            continue
        if class_of(node) in PASSING or class_of(node) in CLOSERS:
            inputs = inputs_of(node)
            if is_link(inputs.get(RESULTS)):
                kept = {name: value for name, value in inputs.items() if name != RESULTS}
                restored[node_id] = {**node, "inputs": kept}
                continue
        restored[node_id] = node
    return restored
