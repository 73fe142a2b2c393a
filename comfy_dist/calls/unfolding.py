"""The first step of a plan: Listens and UseSubgraphs are told what to hand on, upscales share tiles. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from comfy_dist.calls.classes import BROADCASTS, EXECUTING, LISTEN, PUBLISH, UPSCALE, USE
from comfy_dist.calls.errors import RegionError
from comfy_dist.calls.links import RESULTS, class_of, inputs_of, links_of, shown_as
from comfy_dist.calls.listens import Channels
from comfy_dist.calls.subgraphs import DEEPEST, NAME, Subgraphs, inline, too_deep
from comfy_dist.calls.tiling import unfold

#: Nodes that all UseSubgraphs of a prompt may come to.
MOST_INLINED = 20_000


class Unfolded:
    """A prompt whose Listens, UseSubgraphs and upscales have their `results`.

    `needed` is what its targets need of it. What no target needs is not looked at. Raises RegionError.
    """

    def __init__(self, prompt: Mapping[str, Any], targets: Sequence[str]) -> None:
        self.nodes: dict[str, Any] = dict(prompt)
        self.needed: dict[str, None] = {}
        self._channels = Channels(prompt)
        self._subgraphs = Subgraphs(prompt)
        #: What pieces are made of: the prompt as it came, but that Listens in it listen to what is in the piece.
        self._given = {node_id: self._listening(node) for node_id, node in prompt.items()}
        #: The names of the subgraphs that an inlined node came out of, outermost first.
        self._within: dict[str, tuple[str, ...]] = {}
        reached = list(targets)
        for node_id in reached:
            if node_id in self.needed or not class_of(self.nodes.get(node_id)):
                continue
            self.needed[node_id] = None
            node_class = class_of(self.nodes[node_id])
            if node_class == USE:
                self._inline(node_id)
            elif node_class == UPSCALE:
                self.nodes.update(unfold(node_id, self.nodes[node_id], self.fresh))
            elif node_class == LISTEN:
                self._channels.judge(node_id, self.nodes[node_id])
                self.nodes[node_id] = self._listening(self.nodes[node_id])
            links = dict(links_of(self.nodes[node_id]))
            reached += (
                [links[RESULTS][0]]
                if RESULTS in links and node_class in (USE, LISTEN)
                else ([link[0] for link in links.values()])
            )

        if any(class_of(self.nodes[node_id]) in EXECUTING for node_id in self.needed):
            for node_id in self.needed:
                if class_of(self.nodes[node_id]) in BROADCASTS:
                    self.give(node_id, PUBLISH, True)

    def fresh(self, node_id: str) -> str:
        """The id, or one like it that no node has."""
        while node_id in self.nodes:
            node_id += "_"
        return node_id

    def give(self, node_id: str, name: str, value: Any) -> None:
        """Add an input to a node."""
        self.nodes[node_id] = _given(self.nodes[node_id], name, value)

    def _listening(self, node: Any) -> Any:
        """A Listen with the Broadcast that it hears, unless it has one; any other node as it is."""
        if class_of(node) != LISTEN or RESULTS in inputs_of(node):
            return node
        heard = self._channels.heard_by(node)
        return _given(node, RESULTS, heard[0]) if len(heard) == 1 else node

    def _inline(self, use: str) -> None:
        name = inputs_of(self.nodes[use]).get(NAME)
        if not isinstance(name, str):
            # It comes through a link: the node looks for it when it knows it.
            return
        shown = shown_as(use, self.nodes[use])
        within = self._within.get(use, ())
        if name in within:
            path = " → ".join(f"'{each:.100}'" for each in (*within[within.index(name) :], name))
            raise RegionError(
                f"Node {shown} uses a subgraph that contains itself: {path}. Take the {USE} of '{name:.100}' out.",
                shown,
            )
        if len(within) >= DEEPEST:
            raise too_deep(shown)
        piece = self._subgraphs.piece(name, shown)
        if len(self._within) + len(piece.members) > MOST_INLINED:
            raise RegionError(
                f"The subgraphs used in this workflow come to more than {MOST_INLINED} nodes, at node {shown}.",
                shown,
            )
        graph, end = inline(piece, self._given, use, self.nodes[use], self.fresh)
        self.nodes.update(graph)
        self._within.update(dict.fromkeys(graph, (*within, name)))
        if end is not None:
            self.give(use, RESULTS, end)


def _given(node: Any, name: str, value: Any) -> dict[str, Any]:
    return {**node, "inputs": {**inputs_of(node), name: value}}
