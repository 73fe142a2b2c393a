"""Latents in another size or position. The noise mask stays as it is: samplers fit it to the samples."""

from __future__ import annotations

import math
from typing import ClassVar

import torch

from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, number, side
from comfy_dist.nodes.core.latent import SCALE, Latent
from comfy_dist.nodes.core.resize import common_upscale

#: The least length in pixels that a latent is resized or cut to.
_LEAST = 64


class LatentUpscale:
    """Resizes to a size in pixels; a width or height of 0 keeps the aspect, both 0 the latent."""

    upscale_methods: ClassVar = ["nearest-exact", "bilinear", "area", "bicubic", "bislerp"]
    crop_methods: ClassVar = ["disabled", "center"]
    CATEGORY = "latent"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "upscale"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "samples": ("LATENT",),
                "upscale_method": (cls.upscale_methods,),
                "width": side(512, 0, SCALE),
                "height": side(512, 0, SCALE),
                "crop": (cls.crop_methods,),
            }
        }

    def upscale(self, samples: Latent, upscale_method: str, width: int, height: int, crop: str) -> tuple[Latent]:
        """[B, C, …, H, W] to [B, C, …, height / 8, width / 8]; a side given is 64 pixels at least."""
        if width == 0 and height == 0:
            return (samples,)
        tensor: torch.Tensor = samples["samples"]
        old_height, old_width = tensor.shape[-2:]
        if width:
            width = max(_LEAST, width)
        if height:
            height = max(_LEAST, height)
        width = width or max(_LEAST, round(old_width * height / old_height))
        height = height or max(_LEAST, round(old_height * width / old_width))
        resized = common_upscale(tensor, width // SCALE, height // SCALE, upscale_method, crop)
        return ({**samples, "samples": resized},)


class LatentUpscaleBy:
    upscale_methods: ClassVar = LatentUpscale.upscale_methods
    CATEGORY = "latent"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "upscale"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "samples": ("LATENT",),
                "upscale_method": (cls.upscale_methods,),
                "scale_by": number(1.5, 0.01, 8.0),
            }
        }

    def upscale(self, samples: Latent, upscale_method: str, scale_by: float) -> tuple[Latent]:
        """Both sides times `scale_by`, rounded."""
        tensor: torch.Tensor = samples["samples"]
        if not math.isfinite(scale_by) or round(min(tensor.shape[-2:]) * scale_by) < 1:
            raise UnusableInput(
                f"Nothing is left of a latent of {tensor.shape[-1]} x {tensor.shape[-2]} scaled by {scale_by:g}."
            )
        height, width = (round(side * scale_by) for side in tensor.shape[-2:])
        return ({**samples, "samples": common_upscale(tensor, width, height, upscale_method, "disabled")},)


class LatentRotate:
    """Turns clockwise."""

    rotations: ClassVar = ["none", "90 degrees", "180 degrees", "270 degrees"]
    CATEGORY = "latent/transform"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "rotate"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"samples": ("LATENT",), "rotation": (cls.rotations,)}}

    def rotate(self, samples: Latent, rotation: str) -> tuple[Latent]:
        """[B, C, H, W] by a multiple of 90°."""
        quarters = self.rotations.index(rotation)
        return ({**samples, "samples": torch.rot90(samples["samples"], quarters, dims=(3, 2))},)


class LatentFlip:
    CATEGORY = "latent/transform"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "flip"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        methods = ["x-axis: vertically", "y-axis: horizontally"]
        return {"required": {"samples": ("LATENT",), "flip_method": (methods,)}}

    def flip(self, samples: Latent, flip_method: str) -> tuple[Latent]:
        """[B, C, H, W], upside down or left to right."""
        dimension = 2 if flip_method.startswith("x") else 3
        return ({**samples, "samples": samples["samples"].flip(dimension)},)


class LatentCrop:
    """A part of the latent, cut off at its edges."""

    CATEGORY = "latent/transform"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "crop"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "samples": ("LATENT",),
                "width": side(512, _LEAST, SCALE),
                "height": side(512, _LEAST, SCALE),
                "x": side(0, 0, SCALE),
                "y": side(0, 0, SCALE),
            }
        }

    def crop(self, samples: Latent, width: int, height: int, x: int, y: int) -> tuple[Latent]:
        """[B, C, H, W] to at most [B, C, height / 8, width / 8]; 64 pixels are left at least, where there are."""
        tensor: torch.Tensor = samples["samples"]
        rows = _span(tensor.shape[2], y, height)
        columns = _span(tensor.shape[3], x, width)
        return ({**samples, "samples": tensor[:, :, rows, columns]},)


def _span(size: int, start: int, length: int) -> slice:
    """The part of a side of `size`; start and length in pixels."""
    # Below zero where the latent is smaller than the least part: the slice then counts from its end.
    first = min(start // SCALE, size - _LEAST // SCALE)
    return slice(first, first + length // SCALE)


NODE_CLASS_MAPPINGS = {
    cls.__name__: cls for cls in (LatentUpscale, LatentUpscaleBy, LatentRotate, LatentFlip, LatentCrop)
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "LatentUpscale": "Upscale Latent",
    "LatentUpscaleBy": "Upscale Latent By",
    "LatentRotate": "Rotate Latent",
    "LatentFlip": "Flip Latent",
    "LatentCrop": "Crop Latent",
}
