"""How large an image is."""

from __future__ import annotations

import torch

from comfy_dist.nodes import node_texts
from comfy_dist.nodes.core.inputs import Inputs


class GetImageSize:
    """Width, height and number of images, which it shows below itself too."""

    CATEGORY = "image"
    DESCRIPTION = "Width and height of the image, and how many the batch has."
    RETURN_TYPES = ("INT", "INT", "INT")
    RETURN_NAMES = ("width", "height", "batch_size")
    FUNCTION = "get_size"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",)}, "hidden": {"unique_id": "UNIQUE_ID"}}

    def get_size(self, image: torch.Tensor, unique_id: str | None = None) -> tuple[int, int, int]:
        """Of [B, H, W, C]: (W, H, B)."""
        batch, height, width = image.shape[:3]
        if unique_id is not None:
            node_texts.show(unique_id, f"width: {width}, height: {height}\n batch size: {batch}")
        return width, height, batch


NODE_CLASS_MAPPINGS = {"GetImageSize": GetImageSize}
NODE_DISPLAY_NAME_MAPPINGS = {"GetImageSize": "Get Image Size"}
