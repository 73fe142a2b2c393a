"""Named subgraphs: a piece of the graph between Start and End, used again on other images.

The worker's plan inlines it (comfy_dist/calls/subgraphs.py); where nobody has planned, a Use expands into it.
"""

from __future__ import annotations

from typing import Any

import torch

from comfy_dist.calls.classes import USE
from comfy_dist.calls.errors import RegionError
from comfy_dist.calls.links import class_of, inputs_of
from comfy_dist.calls.planning import restore
from comfy_dist.calls.subgraphs import DEEPEST, NAME, Subgraphs, inline, too_deep
from comfy_dist.nodes.cluster.inputs import ANY, Inputs
from comfy_dist.nodes.cluster.lists import as_list

_ID = ("STRING", {"default": "subgraph_id"})


class StartSubgraph:
    CATEGORY = "Cluster"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "start"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",), "subgraph_id": _ID}}

    def start(self, image: torch.Tensor, subgraph_id: str) -> tuple[torch.Tensor]:
        return (image,)


class EndSubgraph:
    CATEGORY = "Cluster"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "end"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",)}}

    def end(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        return (image,)


class UseSubgraph:
    CATEGORY = "Cluster"
    INPUT_IS_LIST = True
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "use"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        # The image is linked to by the piece, and never asked for here.
        return {
            "required": {"image": ("IMAGE", {"lazy": True}), "subgraph_id": _ID},
            "hidden": {"results": (ANY,), "prompt": "DYNPROMPT", "node_id": "UNIQUE_ID"},
        }

    @classmethod
    def IS_CHANGED(cls, **given: Any) -> float | str:
        # What is between Start and End is no input of this node, until it is inlined.
        return "" if "results" in given else float("nan")

    def use(
        self,
        image: list[Any],
        subgraph_id: list[str],
        prompt: list[Any],
        node_id: list[str],
        results: list[Any] | None = None,
    ) -> tuple[list[Any]] | dict[str, Any]:
        """What the piece makes of the image. Raises RegionError for one that is not there, or contains itself."""
        if results is not None:
            return (results,)
        nodes, use, name = prompt[0], node_id[0], subgraph_id[0]
        _check_depth(nodes, use, name)
        original = restore(nodes.get_original_prompt())
        piece = Subgraphs(original).piece(name, use)
        graph, end = inline(piece, original, use, nodes.get_node(use), lambda clone: clone)
        return as_list(graph, use, end)


def _check_depth(nodes: Any, use: str, name: str) -> None:
    """Raises RegionError where the Use of this name comes, at some remove, out of itself, or out of too many."""
    within: list[str] = []
    here: str | None = use
    while (here := nodes.get_parent_node_id(here)) is not None:
        node = nodes.get_node(here)
        if class_of(node) == USE:
            within.append(str(inputs_of(node).get(NAME)))
    if name in within:
        raise RegionError(
            f"Node {use} uses the subgraph {name!r}, which contains itself. Take it out of there.", use
        )
    if len(within) >= DEEPEST:
        raise too_deep(use)


NODE_CLASS_MAPPINGS = {
    "ClusterStartSubgraph": StartSubgraph,
    "ClusterEndSubgraph": EndSubgraph,
    "ClusterUseSubgraph": UseSubgraph,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "ClusterStartSubgraph": "Cluster Start Subgraph",
    "ClusterEndSubgraph": "Cluster End Subgraph",
    "ClusterUseSubgraph": "Cluster Use Subgraph",
}
