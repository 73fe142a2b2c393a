"""Growing and shrinking what is bright, in images and masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch

from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, combo, side, whole
from comfy_dist.nodes.core.limits import MAX_RESOLUTION

Tensor: TypeAlias = torch.Tensor


def dilate(planes: Tensor, size: int) -> Tensor:
    """The largest value of planes [..., H, W] in the size * size square around each pixel.

    An even square reaches farther right and down. Outside of the image there is nothing.
    """
    return _largest(_largest(planes, size, (size - 1) // 2).mT, size, (size - 1) // 2).mT


def erode(planes: Tensor, size: int) -> Tensor:
    """The smallest value in the square; an even one reaches farther left and up."""
    return -_largest(_largest(-planes, size, size // 2).mT, size, size // 2).mT


def _largest(planes: Tensor, size: int, before: int) -> Tensor:
    """The largest of `size` values along the width, `before` of them before each pixel."""
    width = planes.shape[-1]
    after = size - 1 - before
    rows = planes.reshape(-1, 1, width)
    # Farther than the width there is nothing to find.
    before, after = min(before, width), min(after, width)
    rows = torch.nn.functional.pad(rows, (before, after), value=float("-inf"))
    return torch.nn.functional.max_pool1d(rows, before + after + 1, 1).reshape(planes.shape)


def dilate_diamond(planes: Tensor, radius: int) -> Tensor:
    """The largest value of planes [..., H, W] at most `radius` steps up, down, left and right away."""
    # Farther than from corner to corner there is nothing to find.
    for _ in range(min(radius, planes.shape[-1] + planes.shape[-2] - 2)):
        planes = torch.maximum(_largest(planes, 3, 1), _largest(planes.mT, 3, 1).mT)
    return planes


def opened(planes: Tensor, size: int) -> Tensor:
    return dilate(erode(planes, size), size)


def closed(planes: Tensor, size: int) -> Tensor:
    return erode(dilate(planes, size), size)


OPERATIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "erode": erode,
    "dilate": dilate,
    "open": opened,
    "close": closed,
    "gradient": lambda planes, size: dilate(planes, size) - erode(planes, size),
    "bottom_hat": lambda planes, size: closed(planes, size) - planes,
    "top_hat": lambda planes, size: planes - opened(planes, size),
}


class Morphology:
    CATEGORY = "image/postprocessing"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "image": ("IMAGE",),
                "operation": combo(*OPERATIONS),
                "kernel_size": whole(3, 3, 999, step=1),
            }
        }

    def execute(self, image: Tensor, operation: str, kernel_size: int) -> tuple[Tensor]:
        """Each channel of [B, H, W, C] by itself, over squares of kernel_size * kernel_size."""
        if operation not in OPERATIONS:
            raise UnusableInput(f"There is no operation {operation!r}; use one of {', '.join(OPERATIONS)}.")
        return (OPERATIONS[operation](image.movedim(-1, 1), kernel_size).movedim(1, -1),)


class GrowMask:
    """Lets a mask grow by so many pixels, or shrink where that is negative."""

    CATEGORY = "mask"
    RETURN_TYPES = ("MASK",)
    FUNCTION = "expand_mask"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "mask": ("MASK",),
                "expand": side(0, -MAX_RESOLUTION),
                "tapered_corners": ("BOOLEAN", {"default": True}),
            }
        }

    def expand_mask(self, mask: Tensor, expand: int, tapered_corners: bool) -> tuple[Tensor]:
        """[B, H, W] or [H, W] to [B, H, W]; points grow to diamonds with tapered corners, else to squares."""
        planes = mask.reshape(-1, *mask.shape[-2:])
        radius = abs(expand)
        bright = -planes if expand < 0 else planes
        grown = dilate_diamond(bright, radius) if tapered_corners else dilate(bright, 2 * radius + 1)
        return (-grown if expand < 0 else grown.clone(),)


NODE_CLASS_MAPPINGS = {"Morphology": Morphology, "GrowMask": GrowMask}
NODE_DISPLAY_NAME_MAPPINGS = {"Morphology": "ImageMorphology"}
