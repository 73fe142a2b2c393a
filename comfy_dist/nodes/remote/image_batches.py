"""Images of two computers as one batch."""

from __future__ import annotations

import torch

from comfy_dist.nodes.core.inputs import Inputs, UnusableInput


class CombineImageBatch:
    CATEGORY = "remote/image"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("images",)
    FUNCTION = "combine_images"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"images_a": ("IMAGE",), "images_b": ("IMAGE",)}}

    def combine_images(self, images_a: torch.Tensor, images_b: torch.Tensor) -> tuple[torch.Tensor]:
        """[A, H, W, C] and [B, H, W, C] to [A + B, H, W, C]. Raises UnusableInput for images of two sizes."""
        if images_a.shape[1:] != images_b.shape[1:]:
            raise UnusableInput(
                f"images_a are {_size(images_a)} and images_b {_size(images_b)}; one batch has one size. "
                "Resize one of them, or let both come from workflows of the same size."
            )
        return (torch.cat((images_a, images_b.to(images_a))),)


def _size(images: torch.Tensor) -> str:
    height, width, channels = images.shape[1:]
    return f"{width} x {height} with {channels} channels"


NODE_CLASS_MAPPINGS = {"CombineImageBatch": CombineImageBatch}
NODE_DISPLAY_NAME_MAPPINGS = {"CombineImageBatch": "Combine images"}
