"""What an engine is given in place of a prompt with Cluster nodes: the plan. A pure function.

A plan adds, and takes nothing away: a Run node for each region (nodes/cluster/hidden.py), inlined pieces for each
UseSubgraph, nodes that share the tiles of each upscale, and one input, `results`, to those nodes that are to hand
on what was made in their place: closing nodes, Listens, UseSubgraphs and upscales. Without it each of them does
its work where it stands. Broadcasts are told to `publish` where the prompt executes other workflows, which may
listen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comfy_dist.calls.classes import BROADCASTS, CLOSING, OPENERS, PASSING, PUBLISH, RUNS, UPSCALE
from comfy_dist.calls.graph import Circle, Graph
from comfy_dist.calls.layout import Layout, UnreadableLayout
from comfy_dist.calls.links import RESULTS, class_of, inputs_of, natural, passed_on
from comfy_dist.calls.members import gather
from comfy_dist.calls.regions import Regions
from comfy_dist.calls.runs import refuse_crossed, run_node
from comfy_dist.calls.showing import shown_in
from comfy_dist.calls.unfolding import Unfolded

#: The input that a plan adds to nodes of a class.
_ADDED = dict.fromkeys((*CLOSING, *PASSING, UPSCALE), RESULTS) | dict.fromkeys(BROADCASTS, PUBLISH)
#: Without a node of these classes there is nothing to plan.
_PLANNED = frozenset({*OPENERS, *_ADDED, *RUNS})


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

    `nodes_info` is ComfyUI's /object_info; `targets` are the output nodes to execute, all where it names none.
    What is already planned is planned anew. Never changes its arguments; work and memory are linear in the size of
    the prompt and what is inlined. Nodes and links that make no sense are left to validation.

    Raises RegionError for a graph that cannot be split.
    """
    if not any(class_of(node) in _PLANNED for node in prompt.values()):
        return None
    restored = restore(prompt)
    wanted = _targets(prompt, restored, nodes_info, targets)
    unfolded = Unfolded(restored, wanted)
    graph = Graph(unfolded.nodes, nodes_info)
    order = _order(graph, unfolded.needed)
    regions = Regions(graph, order, wanted, unfolded.fresh)
    for region in regions.all:
        gather(regions, region)
    refuse_crossed(regions, order)
    for region in regions.all:
        unfolded.nodes[region.run] = run_node(regions, region)
        # In the order of the layout.
        for number, closer in enumerate(sorted(region.closers, key=natural)):
            unfolded.give(closer, RESULTS, [region.run, number])
    if not regions.all and unfolded.nodes == prompt:
        return None
    executed: dict[str, None] = {}
    for target in wanted:
        around = regions.outermost(target)
        executed[target if around is None else around.run] = None
    return Planned(unfolded.nodes, tuple(executed), shown_in(unfolded.nodes))


def restore(prompt: Mapping[str, Any]) -> dict[str, Any]:
    """The prompt that was planned: people load prompts from saved pictures, as they were executed."""
    restored: dict[str, Any] = {}
    for node_id, node in prompt.items():
        if class_of(node) in RUNS or (isinstance(node, Mapping) and "override_display_id" in node):
            continue
        added = _ADDED.get(class_of(node))
        inputs = inputs_of(node)
        if added is None or added not in inputs:
            restored[node_id] = node
        else:
            kept = {name: value for name, value in inputs.items() if name != added}
            restored[node_id] = {**node, "inputs": kept}
    return restored


def _targets(
    prompt: Mapping[str, Any],
    restored: Mapping[str, Any],
    nodes_info: Mapping[str, Mapping[str, Any]],
    targets: Sequence[str],
) -> tuple[str, ...]:
    """The output nodes to execute, as they were before the prompt was planned."""
    if not targets:
        return tuple(
            node_id
            for node_id, node in restored.items()
            if nodes_info.get(class_of(node), {}).get("output_node") is True
        )
    reached: dict[str, None] = {}
    waiting = list(targets)[::-1]
    while waiting:
        target = waiting.pop()
        if target not in reached:
            reached[target] = None
            waiting += _inside(prompt.get(target))[::-1]
    return tuple(target for target in reached if target in restored)


def _inside(node: Any) -> tuple[str, ...]:
    """The output nodes that a Run node stands for."""
    if class_of(node) not in RUNS:
        return ()
    try:
        return tuple(Layout.from_json(inputs_of(node).get("layout", "")).outputs)
    except (UnreadableLayout, TypeError):
        # Somebody's own; it is planned anew.
        return ()


def _order(graph: Graph, needed: Iterable[str]) -> list[str]:
    node_ids = [node_id for node_id in needed if passed_on(graph.nodes[node_id]) is None]
    try:
        return graph.order(node_ids, {each: [link[0] for link in graph.links(each)] for each in node_ids})
    except Circle as circle:
        raise graph.cycle(circle.nodes) from None
