"""Reckoning with latents. The second takes size and batch of the first."""

from __future__ import annotations

import torch

from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, combo, number, side
from comfy_dist.nodes.core.latent import Latent, check_channels, fitted
from comfy_dist.nodes.core.limits import MAX_RESOLUTION
from comfy_dist.nodes.core.resize import repeat_to_batch_size

#: Of a latent [B, C, (T,) H, W].
_DIMENSIONS = {"x": -1, "y": -2, "t": -3}


class _OfTwo:
    CATEGORY = "latent/advanced"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"samples1": ("LATENT", {}), "samples2": ("LATENT", {})}}


def _both(samples1: Latent, samples2: Latent) -> tuple[torch.Tensor, torch.Tensor]:
    """Their samples, both in the shape of the first."""
    first: torch.Tensor = samples1["samples"]
    check_channels(first, samples2["samples"])
    return first, repeat_to_batch_size(fitted(samples2["samples"], first), first.shape[0])


class LatentAdd(_OfTwo):
    def execute(self, samples1: Latent, samples2: Latent) -> tuple[Latent]:
        first, second = _both(samples1, samples2)
        return ({**samples1, "samples": first + second},)


class LatentSubtract(_OfTwo):
    def execute(self, samples1: Latent, samples2: Latent) -> tuple[Latent]:
        first, second = _both(samples1, samples2)
        return ({**samples1, "samples": first - second},)


class LatentMultiply:
    CATEGORY = "latent/advanced"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"samples": ("LATENT", {}), "multiplier": number(1.0, -10.0, 10.0)}}

    def execute(self, samples: Latent, multiplier: float) -> tuple[Latent]:
        return ({**samples, "samples": samples["samples"] * multiplier},)


class LatentInterpolate(_OfTwo):
    """Between both latents in direction and in length, each pixel's channels taken as a vector."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {**super().INPUT_TYPES()["required"], "ratio": number(1.0, 0.0, 1.0)}}

    def execute(self, samples1: Latent, samples2: Latent, ratio: float) -> tuple[Latent]:
        """`ratio` of the first, the rest of the second; no numbers come out where a vector is zero.

        As in ComfyUI the lengths [B, H, W] meet the channels: a batch is of one, or of as many as channels.
        """
        first, second = _both(samples1, samples2)
        if first.shape[0] not in (1, first.shape[1]):
            raise UnusableInput(
                f"LatentInterpolate takes one latent, or as many as there are channels; samples1 has "
                f"{first.shape[0]}. LatentFromBatch takes them out of a batch."
            )
        first_length, second_length = (torch.linalg.vector_norm(each, dim=1) for each in (first, second))
        direction = _divided(first, first_length) * ratio + _divided(second, second_length) * (1.0 - ratio)
        length = first_length * ratio + second_length * (1.0 - ratio)
        samples = _divided(direction, torch.linalg.vector_norm(direction, dim=1)) * length
        return ({**samples1, "samples": samples},)


def _divided(samples: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    return torch.nan_to_num(samples / length)


class LatentConcat(_OfTwo):
    """Both beside each other, the second before the first for "-x", "-y" and "-t"."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        dim = combo("x", "-x", "y", "-y", "t", "-t")
        return {"required": {**super().INPUT_TYPES()["required"], "dim": dim}}

    def execute(self, samples1: Latent, samples2: Latent, dim: str) -> tuple[Latent]:
        first: torch.Tensor = samples1["samples"]
        second = repeat_to_batch_size(samples2["samples"], first.shape[0])
        dimension = _DIMENSIONS[dim.removeprefix("-")]
        sizes = [list(each.shape) for each in (first, second)]
        for size in sizes:
            size[dimension] = 0
        if sizes[0] != sizes[1]:
            raise UnusableInput(
                f"Latents of {_shown(first)} and {_shown(second)} cannot be put together along {dim}: all their "
                "other sides have to be the same."
            )
        parts = (second, first) if dim.startswith("-") else (first, second)
        return ({**samples1, "samples": torch.cat(parts, dimension)},)


def _shown(samples: torch.Tensor) -> str:
    return " x ".join(map(str, samples.shape))


class LatentCut:
    """`amount` of a side from `index` on, which counts from the end where it is negative."""

    CATEGORY = "latent/advanced"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "samples": ("LATENT", {}),
                "dim": combo("x", "y", "t"),
                "index": side(0, -MAX_RESOLUTION),
                "amount": side(1),
            }
        }

    def execute(self, samples: Latent, dim: str, index: int, amount: int) -> tuple[Latent]:
        """Index and amount in pixels of the latent, both cut off at its edges."""
        tensor: torch.Tensor = samples["samples"]
        dimension = _DIMENSIONS[dim]
        size = tensor.shape[dimension]
        start = min(index, size - 1) if index >= 0 else max(0, size + index)
        return ({**samples, "samples": tensor.narrow(dimension, start, min(amount, size - start))},)


NODE_CLASS_MAPPINGS = {
    cls.__name__: cls
    for cls in (LatentAdd, LatentSubtract, LatentMultiply, LatentInterpolate, LatentConcat, LatentCut)
}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
