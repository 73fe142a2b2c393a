"""Lists out of expansions: ComfyUI hands on but the first item of a link that brings several."""

from __future__ import annotations

from typing import Any

from comfy_dist.nodes.cluster.inputs import ANY, Inputs

LISTED = "ComfyDistListed"


class Listed:
    """All that a link brings as one value, which an OUTPUT_IS_LIST node hands on as its items."""

    CATEGORY = "Cluster"
    DEPRECATED = True
    INPUT_IS_LIST = True
    RETURN_TYPES = (ANY,)
    FUNCTION = "listed"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"input": (ANY,)}}

    def listed(self, input: list[Any]) -> tuple[list[Any]]:
        return (input,)


def as_list(graph: dict[str, Any], node_id: str, end: Any) -> dict[str, Any]:
    """What an OUTPUT_IS_LIST node returns to expand into `graph`, and hand on all that the link `end` brings."""
    listed = f"{node_id}.listed"
    while listed in graph:
        listed += "_"
    node = {"class_type": LISTED, "inputs": {"input": end}}
    return {"result": ([listed, 0],), "expand": {**graph, listed: node}}


HIDDEN = {LISTED: Listed}
