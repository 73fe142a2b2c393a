"""Pictures worked on in overlapping tiles, whose seams are faded into each other."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along one side; the last ones end with it."""
    if length <= tile:
        return [0]
    return [min(start, length - overlap) for start in range(0, length - overlap, tile - overlap)]


def tile_count(length: int, tile: int, overlap: int) -> int:
    return len(tile_starts(length, tile, overlap))


def tiled(
    samples: torch.Tensor,
    function: Callable[[torch.Tensor], torch.Tensor],
    tile: tuple[int, int],
    *,
    overlap: int,
    scale: float,
    channels: int,
    device: str | torch.device,
    on_tile: Callable[[], None] | None = None,
) -> torch.Tensor:
    """`function` of each tile [1, C, h, w] of samples [B, C, H, W], put together as [B, channels, H·s, W·s].

    `tile` is (height, width) at most; `function` gives [1, channels, h·s, w·s].
    """
    height, width = samples.shape[-2:]
    size = (round(height * scale), round(width * scale))
    result = torch.empty((len(samples), channels, *size), device=device)
    starts = [tile_starts(side, each, overlap) for side, each in zip((height, width), tile, strict=True)]
    for index in range(len(samples)):
        total = torch.zeros((channels, *size), device=device)
        weights = torch.zeros(size, device=device)
        for top, left in itertools.product(*starts):
            piece = samples[index : index + 1, :, top : top + tile[0], left : left + tile[1]]
            made = function(piece).to(device)[0]
            y, x = round(top * scale), round(left * scale)
            weight = _fading(
                made.shape[-2], made.shape[-1], round(overlap * scale), len(starts[0]) * len(starts[1]) > 1
            )
            weight = weight.to(device)
            total[:, y : y + made.shape[-2], x : x + made.shape[-1]] += made * weight
            weights[y : y + made.shape[-2], x : x + made.shape[-1]] += weight
            if on_tile is not None:
                on_tile()
        result[index] = total / weights
    return result


def _fading(height: int, width: int, feather: int, several: bool) -> torch.Tensor:
    """[height, width] weights that fall off over `feather` pixels at every edge; 1 where one tile is all."""
    sides = [_ramp(side, feather if several else 0) for side in (height, width)]
    return sides[0][:, None] * sides[1][None, :]


def _ramp(length: int, feather: int) -> torch.Tensor:
    weights = torch.ones(length)
    if 0 < feather < length:
        steps = torch.arange(1, feather + 1) / feather
        weights[:feather] *= steps
        weights[length - feather :] *= steps.flip(0)
    return weights
