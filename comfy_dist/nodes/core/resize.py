"""Resizing as ComfyUI does it, pixel for pixel."""

from __future__ import annotations

import torch
from PIL import Image

from comfy_dist.nodes.core.bislerp import bislerp
from comfy_dist.nodes.core.inputs import UnusableInput
from comfy_dist.nodes.core.pictures import pixels, to_pictures

UPSCALE_METHODS = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]
CROP_METHODS = ["disabled", "center"]


def center_crop(samples: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """The largest middle part of samples [..., H, W] with the aspect of width to height, a view."""
    old_height, old_width = samples.shape[-2:]
    old_aspect, aspect = old_width / old_height, width / height
    left = top = 0
    if old_aspect > aspect:
        left = round((old_width - old_width * (aspect / old_aspect)) / 2)
    elif old_aspect < aspect:
        top = round((old_height - old_height * (old_aspect / aspect)) / 2)
    return samples[..., top : old_height - top, left : old_width - left]


def lanczos(samples: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """samples [B, C, H, W] resized by Pillow's Lanczos filter in 8 bits, as ComfyUI does; same dtype, device."""
    pictures = to_pictures(samples.movedim(1, -1))
    resized = [pixels(picture.resize((width, height), Image.Resampling.LANCZOS)) for picture in pictures]
    return torch.stack(resized).reshape(-1, height, width, samples.shape[1]).movedim(-1, 1).to(samples)


def common_upscale(samples: torch.Tensor, width: int, height: int, upscale_method: str, crop: str) -> torch.Tensor:
    """samples [B, C, H, W] or [B, C, T, H, W], any float dtype, resized to height by width.

    Methods: nearest-exact, bilinear, area, bicubic, lanczos, bislerp. `crop` "center" keeps the aspect,
    "disabled" stretches. Raises UnusableInput where no pixel is left.
    """
    if width < 1 or height < 1:
        raise UnusableInput(
            f"Nothing is left of {samples.shape[-1]} x {samples.shape[-2]} resized to {width} x {height}; "
            "make it larger, 1 x 1 at least."
        )
    frames = samples
    if samples.ndim > 4:
        frames = samples.flatten(2, -3).movedim(2, 1).flatten(0, 1)
    if crop == "center":
        frames = center_crop(frames, width, height)
        if 0 in frames.shape[-2:]:
            raise UnusableInput(
                f"Nothing is left of the middle of {samples.shape[-1]} x {samples.shape[-2]} in the aspect of "
                f"{width} x {height}; choose one nearer to its own."
            )
    if upscale_method == "lanczos":
        resized = lanczos(frames, width, height)
    elif upscale_method == "bislerp":
        resized = bislerp(frames, width, height)
    else:
        resized = torch.nn.functional.interpolate(frames, size=(height, width), mode=upscale_method)
    if samples.ndim == 4:
        return resized
    batch, channels = samples.shape[:2]
    resized = resized.reshape(batch, -1, channels, height, width).movedim(2, 1)
    return resized.reshape(*samples.shape[:-2], height, width)


def resize_images(
    images: torch.Tensor, width: int, height: int, upscale_method: str, crop: str = "disabled"
) -> torch.Tensor:
    """`common_upscale` of images [B, H, W, C]."""
    return common_upscale(images.movedim(-1, 1), width, height, upscale_method, crop).movedim(1, -1)


def repeat_to_batch_size(tensor: torch.Tensor, batch_size: int, dim: int = 0) -> torch.Tensor:
    """The tensor with exactly `batch_size` entries along `dim`: cut off, or repeated from the start."""
    size = tensor.shape[dim]
    if size > batch_size:
        return tensor.narrow(dim, 0, batch_size)
    if size < batch_size:
        repeats = [1] * tensor.ndim
        repeats[dim] = -(-batch_size // size)
        return tensor.repeat(repeats).narrow(dim, 0, batch_size)
    return tensor
