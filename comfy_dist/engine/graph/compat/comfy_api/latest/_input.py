"""`comfy_api.latest.Input`: names for what nodes get, for annotations."""

from __future__ import annotations

import abc
from typing import Any, NotRequired, TypeAlias, TypedDict

import torch

#: [B, H, W, C] in 0…1.
ImageInput: TypeAlias = torch.Tensor
#: [B, H, W] in 0…1.
MaskInput: TypeAlias = torch.Tensor


class AudioInput(TypedDict):
    #: [B, C, T]
    waveform: torch.Tensor
    #: Hz.
    sample_rate: int


class LatentInput(TypedDict):
    #: [B, C, H, W]
    samples: torch.Tensor
    noise_mask: NotRequired[torch.Tensor]
    batch_index: NotRequired[list[int]]


class VideoInput(abc.ABC):
    """A video; packs bring classes of their own, as engine graph has none."""

    @abc.abstractmethod
    def get_components(self) -> Any:
        """Its Types.VideoComponents."""

    @abc.abstractmethod
    def save_to(self, path: Any, format: Any = "auto", codec: Any = "auto", metadata: Any = None) -> None:
        """Write it as a file."""

    def get_dimensions(self) -> tuple[int, int]:
        """(width, height)"""
        images = self.get_components().images
        return images.shape[2], images.shape[1]

    def get_duration(self) -> float:
        """Seconds."""
        components = self.get_components()
        return float(len(components.images) / components.frame_rate)


class Input:
    Image = ImageInput
    Audio = AudioInput
    Mask = MaskInput
    Latent = LatentInput
    Video = VideoInput
