"""LATENT_OPERATION: a function of latent=[B, C, H, W], and whatever else, that returns samples of that shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, number, whole
from comfy_dist.nodes.core.latent import Latent

Operation: TypeAlias = Callable[..., torch.Tensor]


class LatentApplyOperation:
    CATEGORY = "latent/advanced/operations"
    EXPERIMENTAL = True
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"samples": ("LATENT", {}), "operation": ("LATENT_OPERATION", {})}}

    def execute(self, samples: Latent, operation: Operation) -> tuple[Latent]:
        return ({**samples, "samples": operation(latent=samples["samples"])},)


class LatentOperationTonemapReinhard:
    """Presses great magnitudes together by Reinhard's curve; what lies below hardly changes."""

    CATEGORY = "latent/advanced/operations"
    EXPERIMENTAL = True
    RETURN_TYPES = ("LATENT_OPERATION",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"multiplier": number(1.0, 0.0, 100.0)}}

    def execute(self, multiplier: float) -> tuple[Operation]:
        def tonemap(latent: torch.Tensor, **_: Any) -> torch.Tensor:
            magnitude = _magnitude(latent, 1e-10)
            deviation, mean = torch.std_mean(magnitude, dim=(1, 2, 3), keepdim=True)
            # No magnitude comes out above this.
            top = (deviation * 5 + mean) * multiplier
            relative = magnitude / top
            return latent / magnitude * (relative / (relative + 1.0) * top)

        return (tonemap,)


class LatentOperationSharpen:
    """Sharpens the directions of the channels' vectors; their magnitudes stay."""

    CATEGORY = "latent/advanced/operations"
    EXPERIMENTAL = True
    RETURN_TYPES = ("LATENT_OPERATION",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "sharpen_radius": whole(9, 1, 31, step=1),
                "sigma": number(1.0, 0.1, 10.0, 0.1),
                "alpha": number(0.1, 0.0, 5.0),
            }
        }

    def execute(self, sharpen_radius: int, sigma: float, alpha: float) -> tuple[Operation]:
        def sharpen(latent: torch.Tensor, **_: Any) -> torch.Tensor:
            height, width = latent.shape[-2:]
            if sharpen_radius >= min(height, width):
                raise UnusableInput(
                    f"A radius of {sharpen_radius} needs latents of more than {sharpen_radius} on each side; this "
                    f"one has {width} x {height}. Use a smaller radius, or a larger latent."
                )
            magnitude = _magnitude(latent, 1e-6)
            channels = latent.shape[1]
            kernel = _gaussian(sharpen_radius, sigma).to(latent) * (alpha * -10)
            kernel[sharpen_radius, sharpen_radius] += 1.0 - kernel.sum()
            padded = torch.nn.functional.pad(latent / magnitude, [sharpen_radius] * 4, "reflect")
            sharpened = torch.nn.functional.conv2d(
                padded, kernel.expand(channels, 1, *kernel.shape), groups=channels
            )
            return magnitude * sharpened

        return (sharpen,)


def _magnitude(latent: torch.Tensor, least: float) -> torch.Tensor:
    """[B, 1, H, W]: the length of each pixel's channels, and a little."""
    length: torch.Tensor = torch.linalg.vector_norm(latent, dim=1, keepdim=True)
    return length + least


def _gaussian(radius: int, sigma: float) -> torch.Tensor:
    """float32 [n, n], n = 2 radius + 1, of sum 1; sigma is a part of the radius."""
    axis = torch.linspace(-1, 1, 2 * radius + 1)
    bell = torch.exp(-(axis[:, None] ** 2 + axis**2) / (2.0 * sigma * sigma))
    return bell / bell.sum()


NODE_CLASS_MAPPINGS = {
    cls.__name__: cls for cls in (LatentApplyOperation, LatentOperationTonemapReinhard, LatentOperationSharpen)
}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
