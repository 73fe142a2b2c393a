"""Edges: J. Canny, "A Computational Approach to Edge Detection" (1986)."""

from __future__ import annotations

import math

import torch

from comfy_dist.nodes.core.blurring import gaussian
from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, number
from comfy_dist.nodes.core.morphology import dilate

#: (down, right) from a pixel to its neighbours, clockwise from the right one.
_NEIGHBOURS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
#: Of two equal pixels across an edge the left or upper one is kept: it may equal its right or lower neighbour.
_RIGHT, _BELOW = 0, 2

#: Pixels to each side that a pixel is blurred with.
_BLUR = 2

#: The square of the slope of a flat place.
_FLAT = 1e-6


class Canny:
    """White edges on black: those that are steep somewhere, as far as they are not too gentle."""

    CATEGORY = "image/preprocessors"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "detect_edge"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "image": ("IMAGE",),
                "low_threshold": number(0.4, 0.01, 0.99),
                "high_threshold": number(0.8, 0.01, 0.99),
            }
        }

    def detect_edge(self, image: torch.Tensor, low_threshold: float, high_threshold: float) -> tuple[torch.Tensor]:
        """[B, H, W, 1 or 3] to [B, H, W, 3] of 0 and 1; a step from black to white has a slope of 2.6."""
        if low_threshold > high_threshold:
            raise UnusableInput(
                f"low_threshold is {low_threshold}, more than high_threshold, {high_threshold}; make it smaller."
            )
        if min(image.shape[1:3]) <= _BLUR:
            raise UnusableInput(
                f"Edges need images of more than {_BLUR} pixels on each side; this one has "
                f"{image.shape[2]} x {image.shape[1]}."
            )
        slope = _ridges(*_slopes(_brightness(image)))
        strong, weak = (slope > high_threshold).float(), (slope > low_threshold).float()
        return (_connected(strong, weak)[..., None].repeat(1, 1, 1, 3),)


def _brightness(image: torch.Tensor) -> torch.Tensor:
    """[B, H, W, 1]"""
    if image.shape[-1] == 1:
        return image
    if image.shape[-1] != 3:
        raise UnusableInput(
            f"Edges are found in images of one or three channels; this one has {image.shape[-1]}. "
            "SplitImageWithAlpha takes an alpha channel off."
        )
    brightness = image[..., 0:1] * 0.299
    # On an even slope the last bit decides which pixel is the steepest: rounded as ComfyUI's brightness is.
    brightness = torch.addcmul(brightness, image[..., 1:2], brightness.new_tensor(0.587))
    return torch.addcmul(brightness, image[..., 2:3], brightness.new_tensor(0.114))


def _slopes(brightness: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[B, H, W] to the right and down, by Sobel's kernels, of the brightness blurred with a sigma of one pixel."""
    weights = torch.tensor(gaussian(_BLUR, 1 / _BLUR)).to(brightness)
    blurred = torch.nn.functional.pad(brightness[..., 0][:, None], (_BLUR,) * 4, mode="reflect")
    blurred = torch.nn.functional.conv2d(blurred, weights.reshape(1, 1, 1, -1))
    blurred = torch.nn.functional.conv2d(blurred, weights.reshape(1, 1, -1, 1))
    blurred = torch.nn.functional.pad(blurred, (1, 1, 1, 1), mode="replicate")
    right = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(blurred)
    slopes = torch.nn.functional.conv2d(blurred, torch.stack((right, right.T))[:, None])
    return slopes[:, 0], slopes[:, 1]


def _ridges(right: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """The slope [B, H, W] where it is steeper than before and behind it, else 0."""
    slope = torch.nn.functional.pad(right**2, (1, 1, 1, 1)) + torch.nn.functional.pad(down**2, (1, 1, 1, 1))
    slope = (slope + _FLAT).sqrt()
    height, width = right.shape[-2:]
    neighbours = torch.stack([slope[:, 1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in _NEIGHBOURS])
    slope = slope[:, 1:-1, 1:-1]
    direction = (torch.atan2(down, right) * (4 / math.pi)).round().long()
    ridge = slope > math.sqrt(_FLAT)
    for towards in (direction % 8, (direction + 4) % 8):
        neighbour = neighbours.gather(0, towards[None])[0]
        ties = (towards == _RIGHT) | (towards == _BELOW)
        ridge &= (slope > neighbour) | (ties & (slope == neighbour))
    return slope * ridge


def _connected(strong: torch.Tensor, weak: torch.Tensor) -> torch.Tensor:
    """The strong pixels of [B, H, W], and the weak ones that a chain of weak ones joins to them."""
    while True:
        grown = torch.maximum(strong, dilate(strong, 3) * weak)
        if torch.equal(grown, strong):
            return strong
        strong = grown


NODE_CLASS_MAPPINGS = {"Canny": Canny}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
