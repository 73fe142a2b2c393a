"""Images put on images."""

from __future__ import annotations

import torch

from comfy_dist.nodes.core.inputs import Inputs, side
from comfy_dist.nodes.core.resize import repeat_to_batch_size

#: Red, green and blue; what comes after them is alpha.
_COLOURS = 3


class ImageCompositeMasked:
    """Puts the source on the destination at x, y, where the mask says how much of it shows."""

    CATEGORY = "image"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "composite"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "destination": ("IMAGE",),
                "source": ("IMAGE",),
                "x": side(0, 0),
                "y": side(0, 0),
                "resize_source": ("BOOLEAN", {"default": False}),
            },
            "optional": {"mask": ("MASK",)},
        }

    def composite(
        self,
        destination: torch.Tensor,
        source: torch.Tensor,
        x: int,
        y: int,
        resize_source: bool,
        mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor]:
        """A copy of destination [B, H, W, C] with source [b, h, w, c] on it; b is repeated or cut to B."""
        source = with_channels_of(destination, source)
        planes = composite(destination.movedim(-1, 1).clone(), source.movedim(-1, 1), x, y, mask, 1, resize_source)
        return (planes.movedim(1, -1),)


def with_channels_of(destination: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """source [..., c] with the channels of destination: left out where it lacks them, opaque where source does.

    A source of one channel is grey in all colours. ComfyUI 0.3.64 gives the result a channel more instead, which
    holds the brightness of a grey source, and fails at others; later versions make them opaque as here.
    """
    channels = destination.shape[-1]
    if source.shape[-1] == 1 and channels >= _COLOURS:
        source = source.expand(*source.shape[:-1], _COLOURS)
    if source.shape[-1] >= channels:
        return source[..., :channels]
    return torch.nn.functional.pad(source, (0, channels - source.shape[-1]), value=1.0)


def composite(
    destination: torch.Tensor,
    source: torch.Tensor,
    x: int,
    y: int,
    mask: torch.Tensor | None = None,
    multiplier: int = 8,
    resize_source: bool = False,
) -> torch.Tensor:
    """Write source [b, C, h, w] into destination [B, C, H, W] at (x, y) / multiplier; return destination.

    `mask` [b, h, w] is resized to the source; 1 takes the source, 0 keeps the destination.
    """
    source = source.to(destination.device)
    if resize_source:
        source = torch.nn.functional.interpolate(source, size=destination.shape[-2:], mode="bilinear")
    source = repeat_to_batch_size(source, destination.shape[0])
    height, width = source.shape[-2:]
    x = max(-width * multiplier, min(x, destination.shape[-1] * multiplier))
    y = max(-height * multiplier, min(y, destination.shape[-2] * multiplier))
    left, top = x // multiplier, y // multiplier
    # What lies beyond the right and lower edge is not written.
    visible_width = min(width, destination.shape[-1] - left)
    visible_height = min(height, destination.shape[-2] - top)
    if mask is None:
        weight = torch.ones_like(source)
    else:
        weight = mask.to(destination.device).reshape(-1, 1, *mask.shape[-2:])
        weight = torch.nn.functional.interpolate(weight, size=(height, width), mode="bilinear")
        weight = repeat_to_batch_size(weight, source.shape[0])
    weight = weight[..., :visible_height, :visible_width]
    target = destination[..., top : top + visible_height, left : left + visible_width]
    target.copy_(weight * source[..., :visible_height, :visible_width] + (1.0 - weight) * target)
    return destination


NODE_CLASS_MAPPINGS = {"ImageCompositeMasked": ImageCompositeMasked}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
