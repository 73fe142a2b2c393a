"""Compositing of transparent images: Porter and Duff, "Compositing Digital Images" (1984), and a few blends.

Colours are premultiplied by their alpha here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch

from comfy_dist.nodes.core.inputs import UnusableInput

Tensor: TypeAlias = torch.Tensor
#: What an operation keeps of source and destination, by the alpha of source and destination.
Factors: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor | float, Tensor | float]]
#: Colour by the source's colour and alpha, and the destination's.
Blend: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

#: An alpha up to this is nothing: what lies under it has no colour.
_CLEAR = 1e-5

_FACTORS: dict[str, Factors] = {
    "CLEAR": lambda sa, da: (0.0, 0.0),
    "SRC": lambda sa, da: (1.0, 0.0),
    "DST": lambda sa, da: (0.0, 1.0),
    "SRC_OVER": lambda sa, da: (1.0, 1.0 - sa),
    "DST_OVER": lambda sa, da: (1.0 - da, 1.0),
    "SRC_IN": lambda sa, da: (da, 0.0),
    "DST_IN": lambda sa, da: (0.0, sa),
    "SRC_OUT": lambda sa, da: (1.0 - da, 0.0),
    "DST_OUT": lambda sa, da: (0.0, 1.0 - sa),
    "SRC_ATOP": lambda sa, da: (da, 1.0 - sa),
    "DST_ATOP": lambda sa, da: (1.0 - da, sa),
    "XOR": lambda sa, da: (1.0 - da, 1.0 - sa),
}

#: Both show wherever either is, blended where both are.
_BLENDS: dict[str, Blend] = {
    "DARKEN": lambda s, sa, d, da: (1.0 - da) * s + (1.0 - sa) * d + torch.minimum(s, d),
    "LIGHTEN": lambda s, sa, d, da: (1.0 - da) * s + (1.0 - sa) * d + torch.maximum(s, d),
    # Not what the compositing standards call overlay: as ComfyUI computes it.
    "OVERLAY": lambda s, sa, d, da: torch.where(2 * d < da, 2 * s * d, sa * da - 2 * (da - s) * (sa - d)),
    "SCREEN": lambda s, sa, d, da: s + d - s * d,
}

MODES = sorted([*_FACTORS, *_BLENDS, "ADD", "MULTIPLY"])


def porter_duff(
    mode: str, source: Tensor, source_mask: Tensor, destination: Tensor, destination_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Colours and mask of source over, in, atop … destination, in 0…1.

    Colours broadcast against masks, [B, C, H, W] and [B, 1, H, W]; none is premultiplied outside.
    """
    source_alpha, destination_alpha = 1.0 - source_mask, 1.0 - destination_mask
    colour, alpha = _operate(
        mode, source * source_alpha, source_alpha, destination * destination_alpha, destination_alpha
    )
    colour = torch.where(alpha > _CLEAR, colour / alpha, 0.0)
    return colour.clamp(0.0, 1.0), 1.0 - alpha


def _operate(mode: str, s: Tensor, sa: Tensor, d: Tensor, da: Tensor) -> tuple[Tensor, Tensor]:
    """Premultiplied colour and alpha of a mode."""
    if mode in _FACTORS:
        of_source, of_destination = _FACTORS[mode](sa, da)
        return of_source * s + of_destination * d, of_source * sa + of_destination * da
    if mode in _BLENDS:
        return _BLENDS[mode](s, sa, d, da), sa + da - sa * da
    if mode == "ADD":
        return (s + d).clamp(0.0, 1.0), (sa + da).clamp(0.0, 1.0)
    if mode == "MULTIPLY":
        return s * d, sa * da
    raise UnusableInput(f"There is no mode {mode!r}; use one of {', '.join(MODES)}.")
