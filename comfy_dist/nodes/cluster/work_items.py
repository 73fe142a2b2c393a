"""Work items: each rank takes its own contiguous share of a batch or list."""

from __future__ import annotations

from typing import Any

from comfy_dist.nodes.cluster.inputs import ANY, Inputs, whole


class GetInstanceWorkItemFromBatch:
    """Opens a region, as a fan out does, of which every rank has exactly one part (comfy_dist/calls)."""

    CATEGORY = "Cluster"
    INPUT_IS_LIST = True
    RETURN_TYPES = (ANY,)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "share"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"images": (ANY,)}, "optional": {"index_offset": whole(0, 0, 10_000)}}

    def share(self, images: list[Any], index_offset: list[int] | None = None) -> tuple[list[Any]]:
        """All of it: where nobody has divided, there is one rank."""
        return (images,)


NODE_CLASS_MAPPINGS = {"ClusterGetInstanceWorkItemFromBatch": GetInstanceWorkItemFromBatch}
NODE_DISPLAY_NAME_MAPPINGS = {"ClusterGetInstanceWorkItemFromBatch": "Cluster Get Instance Work Item From Batch"}
