"""A batch of no images, which takes the place of one that is not made."""

from __future__ import annotations

import torch

from comfy_dist.nodes.cluster.inputs import Inputs, whole


class EmptyImage:
    CATEGORY = "Distributed"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "create"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        side = whole(64, 1, 4096)
        return {"required": {"height": side, "width": side, "channels": whole(3, 1, 4)}}

    def create(self, height: int, width: int, channels: int) -> tuple[torch.Tensor]:
        """float32 [0, height, width, channels]."""
        return (torch.zeros(0, height, width, channels),)


NODE_CLASS_MAPPINGS = {"DistributedEmptyImage": EmptyImage}
NODE_DISPLAY_NAME_MAPPINGS = {"DistributedEmptyImage": "Distributed Empty Image"}
