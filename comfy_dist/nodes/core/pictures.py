"""Tensors as pictures in 8 bits, and back."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from comfy_dist.nodes.core.inputs import UnusableInput


def to_picture(image: torch.Tensor) -> Image.Image:
    """A picture of an image [H, W, C], any float dtype, 0…1, cut to 8 bits: grey, grey and alpha, RGB or RGBA."""
    if not 1 <= image.shape[-1] <= 4:
        raise UnusableInput(f"A picture has one to four channels; these images have {image.shape[-1]}.")
    levels = (image.float() * 255.0).clamp(0, 255).nan_to_num().to(torch.uint8).cpu().numpy()
    return Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)


def to_pictures(images: torch.Tensor) -> list[Image.Image]:
    """A picture of each of images [B, H, W, C]; one after the other, for the sake of memory."""
    return [to_picture(image) for image in images]


def pixels(picture: Image.Image) -> torch.Tensor:
    """float32 [H, W] or [H, W, C] in 0…1 of a picture in 8 bits."""
    return torch.from_numpy(np.array(picture).astype(np.float32) / 255.0)
