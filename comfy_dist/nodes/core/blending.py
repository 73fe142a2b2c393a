"""Two images mixed pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch

from comfy_dist.nodes.core.compositing import with_channels_of
from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, combo, number
from comfy_dist.nodes.core.resize import resize_images

Tensor: TypeAlias = torch.Tensor


def _overlay(below: Tensor, above: Tensor) -> Tensor:
    return torch.where(below <= 0.5, 2 * below * above, 1 - 2 * (1 - below) * (1 - above))


def _soft_light(below: Tensor, above: Tensor) -> Tensor:
    """By the W3C's "Compositing and Blending"."""
    lighter = torch.where(below <= 0.25, ((16 * below - 12) * below + 4) * below, below.sqrt())
    return torch.where(
        above <= 0.5,
        below - (1 - 2 * above) * below * (1 - below),
        below + (2 * above - 1) * (lighter - below),
    )


MODES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "normal": lambda below, above: above,
    "multiply": lambda below, above: below * above,
    "screen": lambda below, above: 1 - (1 - below) * (1 - above),
    "overlay": _overlay,
    "soft_light": _soft_light,
    "difference": lambda below, above: below - above,
}


class ImageBlend:
    """Blends the second image over the first by a mode, as much as the factor says."""

    CATEGORY = "image/postprocessing"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "blend"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "image1": ("IMAGE",),
                "image2": ("IMAGE",),
                "blend_factor": number(0.5, 0.0, 1.0),
                "blend_mode": combo(*MODES),
            }
        }

    def blend(
        self, image1: torch.Tensor, image2: torch.Tensor, blend_factor: float, blend_mode: str
    ) -> tuple[torch.Tensor]:
        """[B, H, W, C] in the size and channels of image1; batches are equal, or one of them 1."""
        if blend_mode not in MODES:
            raise UnusableInput(f"There is no blend mode {blend_mode!r}; use one of {', '.join(MODES)}.")
        if 1 not in (len(image1), len(image2)) and len(image1) != len(image2):
            raise UnusableInput(
                f"image1 has {len(image1)} images and image2 {len(image2)}; equal batches blend, or one image "
                "with a batch."
            )
        image2 = with_channels_of(image1, image2).to(image1.device)
        if image2.shape[1:3] != image1.shape[1:3]:
            height, width = image1.shape[1:3]
            image2 = resize_images(image2, width, height, "bicubic", "center")
        blended = image1 * (1 - blend_factor) + MODES[blend_mode](image1, image2) * blend_factor
        return (blended.clamp(0, 1),)


NODE_CLASS_MAPPINGS = {"ImageBlend": ImageBlend}
NODE_DISPLAY_NAME_MAPPINGS = {"ImageBlend": "Image Blend"}
