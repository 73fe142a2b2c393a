"""Fan in: what the ranks of a region have made, in order, as the one batch that it was."""

from __future__ import annotations

from typing import Any

from comfy_dist.nodes.cluster.closing import Closing
from comfy_dist.tensors.batches import join


class _FanIn(Closing):
    def close(self, input: list[Any], results: list[Any] | None = None) -> tuple[Any]:
        """All that came as one batch. Raises UnusableBatch."""
        return (join(input if results is None else results),)


class FanInImages(_FanIn):
    RETURN_TYPES = ("IMAGE",)


class FanInLatent(_FanIn):
    RETURN_TYPES = ("LATENT",)


class FanInMask(_FanIn):
    RETURN_TYPES = ("MASK",)


NODE_CLASS_MAPPINGS = {
    "ClusterFanInImages": FanInImages,
    "ClusterFanInLatent": FanInLatent,
    "ClusterFanInMask": FanInMask,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "ClusterFanInImages": "Cluster Fan In Images",
    "ClusterFanInLatent": "Cluster Fan In Latent",
    "ClusterFanInMask": "Cluster Fan In Mask",
}
