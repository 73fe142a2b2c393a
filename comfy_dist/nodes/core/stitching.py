"""Two images side by side."""

from __future__ import annotations

import torch

from comfy_dist.nodes.core.inputs import Inputs, whole
from comfy_dist.nodes.core.resize import resize_images

#: RGB of each colour that may lie between the images.
COLOURS = {
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
}


class ImageStitch:
    """Puts the second image on one side of the first."""

    CATEGORY = "image/transform"
    DESCRIPTION = (
        "Puts image2 beside image1, in the direction given, with a space between them if you like. "
        "Without image2, image1 comes out as it is."
    )
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "stitch"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "image1": ("IMAGE",),
                "direction": (["right", "down", "left", "up"], {"default": "right"}),
                "match_image_size": ("BOOLEAN", {"default": True}),
                "spacing_width": whole(0, 0, 1024, step=2),
                "spacing_color": (list(COLOURS), {"default": "white"}),
            },
            "optional": {"image2": ("IMAGE",)},
        }

    def stitch(
        self,
        image1: torch.Tensor,
        direction: str,
        match_image_size: bool,
        spacing_width: int,
        spacing_color: str,
        image2: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor]:
        """[A, H, W, C] and [B, h, w, c] to a batch of max(A, B), the shorter one's last image repeated.

        The side they share gets the first one's length by resizing the second, or else the longer one's by
        filling up. Odd spaces are a pixel wider. Channels that one lacks are 1 there.
        """
        if image2 is None:
            return (image1,)
        along, across = (2, 1) if direction in ("left", "right") else (1, 2)
        batch = max(image1.shape[0], image2.shape[0])
        image1, image2 = _repeat_last(image1, batch), _repeat_last(image2, batch)
        if match_image_size:
            image2 = _resize_side(image2, across, image1.shape[across])
        else:
            # Only the greys: beside a coloured space the rest is black.
            fill = 1.0 if spacing_color == "white" else 0.0
            longest = max(image1.shape[across], image2.shape[across])
            image1, image2 = (_fill_up(image, across, longest, fill) for image in (image1, image2))
        channels = max(image1.shape[-1], image2.shape[-1])
        image1, image2 = (_with_channels(image, channels) for image in (image1, image2))
        images = [image2, image1] if direction in ("left", "up") else [image1, image2]
        if spacing_width > 0:
            shape = list(image1.shape)
            shape[along] = spacing_width + spacing_width % 2
            images.insert(1, _space(shape, spacing_color).to(image1))
        return (torch.cat(images, along),)


def _repeat_last(image: torch.Tensor, batch: int) -> torch.Tensor:
    """The image `batch` times, its last one repeated."""
    return image[torch.arange(batch).clamp(max=image.shape[0] - 1)] if image.shape[0] < batch else image


def _resize_side(image: torch.Tensor, dim: int, length: int) -> torch.Tensor:
    """The image with `length` pixels along `dim` (1 height, 2 width), its aspect kept."""
    aspect = image.shape[2] / image.shape[1]
    width, height = (int(length * aspect), length) if dim == 1 else (length, int(length / aspect))
    return resize_images(image, width, height, "lanczos")


def _fill_up(image: torch.Tensor, dim: int, length: int, value: float) -> torch.Tensor:
    """The image in the middle of `length` pixels along `dim`; an odd one more is below or right."""
    missing = length - image.shape[dim]
    if missing == 0:
        return image
    before, after = missing // 2, missing - missing // 2
    padding = (0, 0, before, after) if dim == 2 else (0, 0, 0, 0, before, after)
    return torch.nn.functional.pad(image, padding, value=value)


def _with_channels(image: torch.Tensor, channels: int) -> torch.Tensor:
    missing = channels - image.shape[-1]
    return torch.nn.functional.pad(image, (0, missing), value=1.0) if missing else image


def _space(shape: list[int], colour: str) -> torch.Tensor:
    """An opaque space of one colour, in as many of its channels as there are."""
    values = torch.zeros(shape[-1])
    opaque = torch.tensor([*COLOURS[colour], 1.0])[: shape[-1]]
    values[: len(opaque)] = opaque
    return values.expand(shape)


NODE_CLASS_MAPPINGS = {"ImageStitch": ImageStitch}
NODE_DISPLAY_NAME_MAPPINGS = {"ImageStitch": "Image Stitch"}
