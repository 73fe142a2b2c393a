"""Images in another size."""

from __future__ import annotations

import math
from typing import ClassVar

import torch

from comfy_dist.nodes.core.inputs import Inputs, combo, number, side
from comfy_dist.nodes.core.resize import CROP_METHODS, UPSCALE_METHODS, resize_images


class ImageScale:
    """Resizes; a width or height of 0 keeps the aspect, both 0 the image."""

    upscale_methods: ClassVar = UPSCALE_METHODS
    crop_methods: ClassVar = CROP_METHODS
    CATEGORY = "image/upscaling"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "upscale"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
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
        return (resize_images(image, width, height, upscale_method, crop),)


class ImageScaleBy:
    upscale_methods: ClassVar = UPSCALE_METHODS
    CATEGORY = "image/upscaling"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "upscale"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "image": ("IMAGE",),
                "upscale_method": (cls.upscale_methods,),
                "scale_by": number(1.0, 0.01, 8.0),
            }
        }

    def upscale(self, image: torch.Tensor, upscale_method: str, scale_by: float) -> tuple[torch.Tensor]:
        """Both sides times `scale_by`, rounded."""
        height, width = (round(length * scale_by) for length in image.shape[1:3])
        return (resize_images(image, width, height, upscale_method),)


class ImageScaleToTotalPixels:
    """Keeps the aspect."""

    CATEGORY = "image/upscaling"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "upscale"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "image": ("IMAGE",),
                "upscale_method": combo(*UPSCALE_METHODS),
                "megapixels": number(1.0, 0.01, 16.0),
            }
        }

    def upscale(self, image: torch.Tensor, upscale_method: str, megapixels: float) -> tuple[torch.Tensor]:
        """To `megapixels` of 1024 * 1024 pixels, as near as whole sides come."""
        height, width = image.shape[1:3]
        scale_by = math.sqrt(int(megapixels * 1024 * 1024) / (width * height))
        return (resize_images(image, round(width * scale_by), round(height * scale_by), upscale_method),)


class ImageScaleToMaxDimension:
    """Keeps the aspect."""

    #: One stands there twice in ComfyUI's list too.
    upscale_methods: ClassVar = ["area", "lanczos", "bilinear", "nearest-exact", "bilinear", "bicubic"]
    CATEGORY = "image/upscaling"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "upscale"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "image": ("IMAGE",),
                "upscale_method": (cls.upscale_methods,),
                "largest_size": side(least=0),
            }
        }

    def upscale(self, image: torch.Tensor, upscale_method: str, largest_size: int) -> tuple[torch.Tensor]:
        """The longer side to `largest_size`."""
        height, width = image.shape[1:3]
        longest = max(height, width)
        height, width = (round(length / longest * largest_size) for length in (height, width))
        return (resize_images(image, width, height, upscale_method),)


class ResizeAndPadImage:
    """Fits the image into a size and fills what is left on both sides of it."""

    CATEGORY = "image/transform"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "resize_and_pad"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "image": ("IMAGE",),
                "target_width": side(),
                "target_height": side(),
                "padding_color": (["white", "black"],),
                "interpolation": (["area", "bicubic", "nearest-exact", "bilinear", "lanczos"],),
            }
        }

    def resize_and_pad(
        self, image: torch.Tensor, target_width: int, target_height: int, padding_color: str, interpolation: str
    ) -> tuple[torch.Tensor]:
        """[B, H, W, C] to [B, target_height, target_width, C]; an odd row or column more is below or right."""
        batch, old_height, old_width, channels = image.shape
        scale = min(target_width / old_width, target_height / old_height)
        width, height = int(old_width * scale), int(old_height * scale)
        padded = image.new_full(
            (batch, target_height, target_width, channels), 0.0 if padding_color == "black" else 1.0
        )
        left, top = (target_width - width) // 2, (target_height - height) // 2
        padded[:, top : top + height, left : left + width] = resize_images(image, width, height, interpolation)
        return (padded,)


class FluxKontextImageScale:
    """Resizes to that of the sizes Flux Kontext was trained with whose aspect is nearest; the rest is cut off."""

    CATEGORY = "advanced/conditioning/flux"
    DESCRIPTION = "Resizes the image to the size that suits Flux Kontext best."
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "scale"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",)}}

    def scale(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        """[B, H, W, C] to about a megapixel."""
        height, width = image.shape[1:3]
        aspect = width / height
        new_width, new_height = min(KONTEXT_SIZES, key=lambda size: abs(aspect - size[0] / size[1]))
        return (resize_images(image, new_width, new_height, "lanczos", "center"),)


#: (width, height), from tall to wide.
_TALL = (
    (672, 1568),
    (688, 1504),
    (720, 1456),
    (752, 1392),
    (800, 1328),
    (832, 1248),
    (880, 1184),
    (944, 1104),
)
KONTEXT_SIZES = (*_TALL, (1024, 1024), *((width, height) for height, width in reversed(_TALL)))


NODE_CLASS_MAPPINGS = {
    "ImageScale": ImageScale,
    "ImageScaleBy": ImageScaleBy,
    "ImageScaleToTotalPixels": ImageScaleToTotalPixels,
    "ImageScaleToMaxDimension": ImageScaleToMaxDimension,
    "ResizeAndPadImage": ResizeAndPadImage,
    "FluxKontextImageScale": FluxKontextImageScale,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "ImageScale": "Upscale Image",
    "ImageScaleBy": "Upscale Image By",
    "ImageScaleToTotalPixels": "Scale Image to Total Pixels",
}
