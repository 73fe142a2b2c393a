"""Putting latents on and into one another, and saying which part of one is denoised."""

from __future__ import annotations

import torch

from comfy_dist.nodes.core.compositing import composite
from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, number, side
from comfy_dist.nodes.core.latent import SCALE, Latent, check_channels
from comfy_dist.nodes.core.resize import common_upscale


class LatentComposite:
    """Puts one latent on another at x, y, its edges faded where the other one goes on beyond them."""

    CATEGORY = "latent"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "composite"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "samples_to": ("LATENT",),
                "samples_from": ("LATENT",),
                "x": side(0, 0, SCALE),
                "y": side(0, 0, SCALE),
                "feather": side(0, 0, SCALE),
            }
        }

    def composite(
        self,
        samples_to: Latent,
        samples_from: Latent,
        x: int,
        y: int,
        feather: int,
    ) -> tuple[Latent]:
        """A copy of samples_to [B, C, H, W] with samples_from [B or 1, C, h, w] on it; x, y, feather in pixels."""
        result: torch.Tensor = samples_to["samples"].clone()
        check_channels(result, samples_from["samples"])
        height, width = result.shape[2:4]
        left, top, feather = x // SCALE, y // SCALE, feather // SCALE
        # What lies beyond the right and lower edge is left out.
        source: torch.Tensor = samples_from["samples"][:, :, : max(0, height - top), : max(0, width - left)]
        bottom, right = top + source.shape[2], left + source.shape[3]
        target = result[:, :, top:bottom, left:right]
        if source.shape[0] not in (1, target.shape[0]):
            raise UnusableInput(
                f"samples_from has {source.shape[0]} latents and samples_to {target.shape[0]}; one goes on "
                "all, or each on its own. LatentFromBatch takes one out of a batch."
            )
        if feather:
            rows = faded(source.shape[2], feather, top > 0, bottom < height)
            columns = faded(source.shape[3], feather, left > 0, right < width)
            weight = (rows[:, None] * columns).reshape(*source.shape[2:4], *[1] * (source.ndim - 4)).to(source)
            source = source * weight + target * (1.0 - weight)
        target.copy_(source)
        return ({**samples_to, "samples": result},)


def faded(length: int, feather: int, at_start: bool, at_end: bool) -> torch.Tensor:
    """float32 [length]: weights that rise from 1 / feather to 1 at the start, and fall back at the end."""

    def ramp(steps: torch.Tensor) -> torch.Tensor:
        return ((steps + 1) / feather).clamp(max=1)

    steps = torch.arange(length, dtype=torch.float32)
    weights = torch.ones(length)
    if at_start:
        weights *= ramp(steps)
    if at_end:
        from_end = length - 1 - steps
        weights *= ramp(from_end)
        # ComfyUI counts on from the end where the fade is longer than the side, all but the last once more.
        weights[:-1] *= ramp(from_end + length)[:-1]
    return weights


class LatentCompositeMasked:
    """Puts the source on the destination at x, y, where the mask says how much of it shows."""

    CATEGORY = "latent"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "composite"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "destination": ("LATENT",),
                "source": ("LATENT",),
                "x": side(0, 0, SCALE),
                "y": side(0, 0, SCALE),
                "resize_source": ("BOOLEAN", {"default": False}),
            },
            "optional": {"mask": ("MASK",)},
        }

    def composite(
        self,
        destination: Latent,
        source: Latent,
        x: int,
        y: int,
        resize_source: bool,
        mask: torch.Tensor | None = None,
    ) -> tuple[Latent]:
        """A copy of destination [B, C, H, W]; source [b, C, h, w] is repeated or cut to B; x and y in pixels."""
        check_channels(destination["samples"], source["samples"])
        samples = composite(destination["samples"].clone(), source["samples"], x, y, mask, SCALE, resize_source)
        return ({**destination, "samples": samples},)


class LatentBlend:
    CATEGORY = "_for_testing"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "blend"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "samples1": ("LATENT",),
                "samples2": ("LATENT",),
                "blend_factor": number(0.5, 0, 1),
            }
        }

    def blend(self, samples1: Latent, samples2: Latent, blend_factor: float) -> tuple[Latent]:
        """blend_factor of the first and the rest of the second, in the size of the first."""
        first: torch.Tensor = samples1["samples"]
        second: torch.Tensor = samples2["samples"]
        check_channels(first, second)
        if first.shape != second.shape:
            second = common_upscale(second, first.shape[3], first.shape[2], "bicubic", "center")
        batches = first.shape[0], second.shape[0]
        if batches[0] != batches[1] and 1 not in batches:
            raise UnusableInput(
                f"samples1 has {batches[0]} latents and samples2 {batches[1]}; equal batches blend, or one latent "
                "with a batch."
            )
        return ({**samples1, "samples": first * blend_factor + second * (1 - blend_factor)},)


class SetLatentNoiseMask:
    """Only what the mask covers is denoised."""

    CATEGORY = "latent/inpaint"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "set_mask"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"samples": ("LATENT",), "mask": ("MASK",)}}

    def set_mask(self, samples: Latent, mask: torch.Tensor) -> tuple[Latent]:
        """noise_mask [b, 1, h, w] of the mask [b, h, w], in any size."""
        return ({**samples, "noise_mask": mask.reshape(-1, 1, *mask.shape[-2:])},)


NODE_CLASS_MAPPINGS = {
    cls.__name__: cls for cls in (LatentComposite, LatentCompositeMasked, LatentBlend, SetLatentNoiseMask)
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "LatentComposite": "Latent Composite",
    "LatentBlend": "Latent Blend",
    "SetLatentNoiseMask": "Set Latent Noise Mask",
}
