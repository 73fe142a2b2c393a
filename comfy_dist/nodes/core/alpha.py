"""Transparency: in its own mask, or as an image's fourth channel. A mask is 1 where alpha is 0."""

from __future__ import annotations

import torch

from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, combo
from comfy_dist.nodes.core.porter_duff import MODES, porter_duff
from comfy_dist.nodes.core.resize import common_upscale


class SplitImageWithAlpha:
    """An image without its alpha, and that as a mask."""

    CATEGORY = "mask/compositing"
    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "split"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",)}}

    def split(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, H, W, C] to its first three channels and MASK [B, H, W], zeros where there is no alpha."""
        if image.shape[-1] > 3:
            return image[..., :3], 1.0 - image[..., 3]
        return image, torch.zeros_like(image[..., 0])


class JoinImageWithAlpha:
    """An image with the mask as its alpha."""

    CATEGORY = "mask/compositing"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "join"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",), "alpha": ("MASK",)}}

    def join(self, image: torch.Tensor, alpha: torch.Tensor) -> tuple[torch.Tensor]:
        """[B, H, W, C] and MASK [b, h, w] to [min(B, b), H, W, 4]; the mask is resized to the image."""
        mask = alpha.reshape(-1, 1, *alpha.shape[-2:])
        mask = torch.nn.functional.interpolate(mask, size=image.shape[1:3], mode="bilinear").movedim(1, -1)
        batch = min(len(image), len(mask))
        return (torch.cat((image[:batch, ..., :3], 1.0 - mask[:batch]), -1),)


class PorterDuffImageComposite:
    """Source and destination, each with its transparency, by Porter and Duff's rules."""

    CATEGORY = "mask/compositing"
    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "composite"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "source": ("IMAGE",),
                "source_alpha": ("MASK",),
                "destination": ("IMAGE",),
                "destination_alpha": ("MASK",),
                "mode": combo(*MODES, default="DST"),
            }
        }

    def composite(
        self,
        source: torch.Tensor,
        source_alpha: torch.Tensor,
        destination: torch.Tensor,
        destination_alpha: torch.Tensor,
        mode: str,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """IMAGE [B, H, W, C] and MASK [B, H, W] in the size of destination, B that of the smallest batch."""
        if source.shape[-1] != destination.shape[-1]:
            raise UnusableInput(
                f"The source has {source.shape[-1]} channels and the destination {destination.shape[-1]}; "
                "both need the same. SplitImageWithAlpha takes an alpha channel off."
            )
        batch = min(len(source), len(source_alpha), len(destination), len(destination_alpha))
        height, width = destination.shape[1:3]
        colour, mask = porter_duff(
            mode,
            _fit(source[:batch].movedim(-1, 1), height, width),
            _fit(source_alpha[:batch, None], height, width),
            destination[:batch].movedim(-1, 1),
            _fit(destination_alpha[:batch, None], height, width),
        )
        return colour.movedim(1, -1), mask[:, 0]


def _fit(planes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """[B, C, h, w] as [B, C, height, width]."""
    if planes.shape[-2:] == (height, width):
        return planes
    return common_upscale(planes, width, height, "bicubic", "center")


NODE_CLASS_MAPPINGS = {
    "PorterDuffImageComposite": PorterDuffImageComposite,
    "SplitImageWithAlpha": SplitImageWithAlpha,
    "JoinImageWithAlpha": JoinImageWithAlpha,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "PorterDuffImageComposite": "Porter-Duff Image Composite",
    "SplitImageWithAlpha": "Split Image with Alpha",
    "JoinImageWithAlpha": "Join Image with Alpha",
}
