"""Making, resizing, joining and cutting images. IMAGE is float32 [B, H, W, C] in 0…1."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from comfy_dist.nodes.core.limits import MAX_RESOLUTION
from comfy_dist.nodes.core.resize import common_upscale

UPSCALE_METHODS = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]
CROP_METHODS = ["disabled", "center"]


def side(default: int = 512, least: int = 1) -> tuple[str, dict[str, Any]]:
    """An INT input for a length in pixels."""
    return ("INT", {"default": default, "min": least, "max": MAX_RESOLUTION, "step": 1})


class EmptyImage:
    """A picture of one colour."""

    CATEGORY = "image"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "generate"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        color = {"default": 0, "min": 0, "max": 0xFFFFFF, "step": 1, "display": "color"}
        return {
            "required": {
                "width": side(),
                "height": side(),
                "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096}),
                "color": ("INT", color),
            }
        }

    def generate(self, width: int, height: int, batch_size: int = 1, color: int = 0) -> tuple[torch.Tensor]:
        """float32 [batch_size, height, width, 3]; `color` is 0xRRGGBB."""
        channels = torch.tensor([(color >> shift & 0xFF) / 0xFF for shift in (16, 8, 0)])
        return (channels.expand(batch_size, height, width, 3).clone(),)


class ImageScale:
    """Resizes; a width or height of 0 keeps the aspect, both 0 the image."""

    upscale_methods: ClassVar = UPSCALE_METHODS
    crop_methods: ClassVar = CROP_METHODS
    CATEGORY = "image/upscaling"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "upscale"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE",),
                "upscale_method": (cls.upscale_methods,),
                "width": side(least=0),
                "height": side(least=0),
                "crop": (cls.crop_methods,),
            }
        }

    def upscale(
        self, image: torch.Tensor, upscale_method: str, width: int, height: int, crop: str
    ) -> tuple[torch.Tensor]:
        """[B, H, W, C] to [B, height, width, C]."""
        if width == 0 and height == 0:
            return (image,)
        old_height, old_width = image.shape[1:3]
        width = width or max(1, round(old_width * height / old_height))
        height = height or max(1, round(old_height * width / old_width))
        return (common_upscale(image.movedim(-1, 1), width, height, upscale_method, crop).movedim(1, -1),)


class ImageInvert:
    CATEGORY = "image"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "invert"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": ("IMAGE",)}}

    def invert(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        return (1.0 - image,)


class ImageBatch:
    """Both batches as one; the second is resized to the first where their sizes differ."""

    CATEGORY = "image"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "batch"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image1": ("IMAGE",), "image2": ("IMAGE",)}}

    def batch(self, image1: torch.Tensor, image2: torch.Tensor) -> tuple[torch.Tensor]:
        """[A, H, W, C] and [B, h, w, C] to [A + B, H, W, C]."""
        if image1.shape[1:] != image2.shape[1:]:
            height, width = image1.shape[1:3]
            image2 = common_upscale(image2.movedim(-1, 1), width, height, "bilinear", "center").movedim(1, -1)
        return (torch.cat((image1, image2)),)


class ImageCrop:
    """A part of the image, cut off at its edges."""

    CATEGORY = "image/transform"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "crop"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE",),
                "width": side(),
                "height": side(),
                "x": side(0, 0),
                "y": side(0, 0),
            }
        }

    def crop(self, image: torch.Tensor, width: int, height: int, x: int, y: int) -> tuple[torch.Tensor]:
        """[B, H, W, C] to at most [B, height, width, C], at least one pixel."""
        x = min(x, image.shape[2] - 1)
        y = min(y, image.shape[1] - 1)
        return (image[:, y : y + height, x : x + width, :],)


NODE_CLASS_MAPPINGS = {
    "EmptyImage": EmptyImage,
    "ImageScale": ImageScale,
    "ImageInvert": ImageInvert,
    "ImageBatch": ImageBatch,
    "ImageCrop": ImageCrop,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "ImageScale": "Upscale Image",
    "ImageInvert": "Invert Image",
    "ImageBatch": "Batch Images",
    "ImageCrop": "Image Crop",
}
