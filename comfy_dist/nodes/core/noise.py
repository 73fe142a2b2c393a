"""NOISE: what a sampler gets its noise from. It has a `seed`, and `generate_noise(latent)`, like its samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from comfy_dist.nodes.core.inputs import Inputs, whole
from comfy_dist.nodes.core.latent import Latent


@dataclass(frozen=True)
class SeededNoise:
    """Normally distributed, made on the CPU: the same for the same seed everywhere."""

    seed: int

    def generate_noise(self, input_latent: Latent) -> torch.Tensor:
        """Like samples [B, …]; with batch_index [B], latent n gets what the batch_index[n]-th of a seed gets."""
        samples: torch.Tensor = input_latent["samples"]
        generator = torch.Generator().manual_seed(self.seed)
        indices: list[int] | None = input_latent.get("batch_index")
        if indices is None:
            return torch.randn(samples.shape, dtype=samples.dtype, generator=generator)
        # One after the other, as in a batch of that many; drawn at once the numbers would be others.
        drawn = {
            index: torch.randn((1, *samples.shape[1:]), dtype=samples.dtype, generator=generator)
            for index in range(max(indices) + 1)
        }
        return torch.cat([drawn[index] for index in indices])


@dataclass(frozen=True)
class NoNoise:
    seed: int = 0

    def generate_noise(self, input_latent: Latent) -> torch.Tensor:
        """Zeros like the samples."""
        samples: torch.Tensor = input_latent["samples"]
        return torch.zeros(samples.shape, dtype=samples.dtype)


class RandomNoise:
    CATEGORY = "sampling/custom_sampling/noise"
    RETURN_TYPES = ("NOISE",)
    FUNCTION = "get_noise"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"noise_seed": whole(0, 0, 0xFFFFFFFFFFFFFFFF, control_after_generate=True)}}

    def get_noise(self, noise_seed: int) -> tuple[SeededNoise]:
        return (SeededNoise(noise_seed),)


class DisableNoise:
    """For a latent that has its noise already."""

    CATEGORY = "sampling/custom_sampling/noise"
    RETURN_TYPES = ("NOISE",)
    FUNCTION = "get_noise"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {}}

    def get_noise(self) -> tuple[NoNoise]:
        return (NoNoise(),)


NODE_CLASS_MAPPINGS = {"RandomNoise": RandomNoise, "DisableNoise": DisableNoise}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
