"""Batches of images and sounds in up to ten parts, one after another."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import torch

from comfy_dist.nodes.cluster.inputs import Inputs, whole

#: Outputs of each divider.
PARTS = 10


class _Divider:
    FUNCTION = "divide"
    RETURN_TYPES: ClassVar[tuple[str, ...]]
    INPUT: ClassVar[str]

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        parts = whole(2, 1, PARTS)
        return {"required": {cls.INPUT: cls.RETURN_TYPES[:1], "divide_by": parts}}


class ImageBatchDivider(_Divider):
    CATEGORY = "Distributed"
    INPUT = "images"
    RETURN_TYPES = ("IMAGE",) * PARTS
    RETURN_NAMES = tuple(f"batch_{n}" for n in range(1, PARTS + 1))

    def divide(self, images: torch.Tensor, divide_by: int) -> tuple[torch.Tensor, ...]:
        """[b, H, W, C] each, the first with what is left over; outputs after `divide_by` have b = 0."""
        return tuple(images[start:stop] for start, stop in _bounds(images.shape[0], divide_by))


class AudioBatchDivider(_Divider):
    CATEGORY = "Distributed"
    INPUT = "audio"
    RETURN_TYPES = ("AUDIO",) * PARTS
    RETURN_NAMES = tuple(f"audio_{n}" for n in range(1, PARTS + 1))

    def divide(self, audio: dict[str, Any], divide_by: int) -> tuple[dict[str, Any], ...]:
        """[B, channels, t] each, along time; outputs after `divide_by` have t = 0."""
        waveform: torch.Tensor = audio["waveform"]
        bounds = _bounds(waveform.shape[-1], divide_by)
        return tuple({**audio, "waveform": waveform[..., start:stop]} for start, stop in bounds)


def _bounds(items: int, parts: int) -> list[tuple[int, int]]:
    """Start and stop of every part: those of `torch.tensor_split`, and then empty ones."""
    size, more = divmod(items, parts)
    ends = [min(n, parts) * size + min(n, more) for n in range(PARTS + 1)]
    return list(itertools.pairwise(ends))


NODE_CLASS_MAPPINGS = {"ImageBatchDivider": ImageBatchDivider, "AudioBatchDivider": AudioBatchDivider}
NODE_DISPLAY_NAME_MAPPINGS = {
    "ImageBatchDivider": "Image Batch Divider",
    "AudioBatchDivider": "Audio Batch Divider",
}
