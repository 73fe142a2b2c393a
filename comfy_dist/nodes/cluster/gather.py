"""Gather: what the ranks of a region have made, as a list with one batch from each."""

from __future__ import annotations

from typing import Any

from comfy_dist.nodes.cluster.closing import Closing
from comfy_dist.tensors.batches import join


class _Gather(Closing):
    OUTPUT_IS_LIST = (True,)

    def close(self, input: list[Any], results: list[Any] | None = None) -> tuple[list[Any]]:
        """The ranks' results; where there is but one rank, all that came is its batch. Raises UnusableBatch."""
        if results is not None:
            return (results,)
        return ([join(input)] if input else [],)


class GatherImages(_Gather):
    RETURN_TYPES = ("IMAGE",)


class GatherLatents(_Gather):
    RETURN_TYPES = ("LATENT",)


class GatherMasks(_Gather):
    RETURN_TYPES = ("MASK",)


NODE_CLASS_MAPPINGS = {
    "ClusterGatherImages": GatherImages,
    "ClusterGatherLatents": GatherLatents,
    "ClusterGatherMasks": GatherMasks,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "ClusterGatherImages": "Cluster Gather Images",
    "ClusterGatherLatents": "Cluster Gather Latents",
    "ClusterGatherMasks": "Cluster Gather Masks",
}
