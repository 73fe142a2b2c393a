"""LATENT: {"samples": float [B, C, …, H, W], "noise_mask"?: float [b, 1, h, w], "batch_index"?: [int] * B, …}.

A side of an image latent is an eighth of the picture's. Nodes hand on what they do not change, and change a
copy of the dict.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch

from comfy_dist.nodes.core.inputs import UnusableInput
from comfy_dist.nodes.core.resize import common_upscale

Latent: TypeAlias = dict[str, Any]

#: Pixels of a picture to one of its latent.
SCALE = 8


def check_channels(first: torch.Tensor, second: torch.Tensor, *, joined: bool = False) -> None:
    """Raises UnusableInput for samples [B, C, …] of two kinds of models; one channel goes with all, but joined."""
    if first.ndim != second.ndim:
        raise UnusableInput(
            f"One latent has {first.ndim} dimensions and the other {second.ndim}: one is of pictures, the "
            "other of a video or a sound. They cannot be put together."
        )
    counts = first.shape[1], second.shape[1]
    if counts[0] != counts[1] and (joined or 1 not in counts):
        raise UnusableInput(
            f"One latent has {counts[0]} channels and the other {counts[1]}: they are of different "
            "kinds of models, and cannot be put together."
        )


def fitted(samples: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`samples` in the width and height of `like`, its middle where the aspects differ."""
    if samples.shape[1:] == like.shape[1:]:
        return samples
    return common_upscale(samples, like.shape[-1], like.shape[-2], "bilinear", "center")
