"""LATENT: {"samples": float [B, C, …, H, W], "noise_mask"?: float [b, 1, h, w], "batch_index"?: [int] * B, …}.

A side of an image latent is an eighth of the picture's. Nodes hand on what they do not change, and change a
copy of the dict.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch

from comfy_dist.nodes.core.resize import common_upscale

Latent: TypeAlias = dict[str, Any]

#: Pixels of a picture to one of its latent.
SCALE = 8


def fitted(samples: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`samples` in the width and height of `like`, its middle where the aspects differ."""
    if samples.shape[1:] == like.shape[1:]:
        return samples
    return common_upscale(samples, like.shape[-1], like.shape[-2], "bilinear", "center")
