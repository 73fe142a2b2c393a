"""Tiles put together to a picture: each pixel is the mean of the tiles there, weighted by their blurred masks.

The masks of a grid are products of one along each side, and made to sum up to 1 there. So no mask is larger than
its tile, nothing is left of the picture below, and where a tile is alone its pixels are taken as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from comfy_dist.nodes.distributed.tile_layout import Strip, TileLayout
from comfy_dist.tensors.batches import UnusableBatch


def weights(strips: Sequence[Strip], blur: float) -> list[torch.Tensor]:
    """How much each strip counts on each pixel that is kept of it, float32; for every pixel of the side 1 in all.

    Before they are brought to 1 they are the blurred mask of the core, which goes on beyond the side's ends.
    """
    size = strips[-1].core[1]
    masks = [_mask(strip, size, blur) for strip in strips]
    total = torch.zeros(size, dtype=torch.float64)
    for strip, mask in zip(strips, masks, strict=True):
        total[slice(*strip.kept)] += mask
    return [(mask / total[slice(*strip.kept)]).float() for strip, mask in zip(strips, masks, strict=True)]


def blend(tiles: Sequence[torch.Tensor], layout: TileLayout) -> torch.Tensor:
    """The picture [B, H, W, C] of what is kept of each tile, [B, h, w, C], in the layout's order.

    The same whoever made the tiles, and when. Raises UnusableBatch for what are not the tiles of that layout.
    """
    rows, columns = weights(layout.rows, layout.blur), weights(layout.columns, layout.blur)
    places = [(row, column) for row in range(len(rows)) for column in range(len(columns))]
    if len(tiles) != len(places):
        raise UnusableBatch(f"The picture has {len(places)} tiles, and {len(tiles)} came.")
    batch, channels = tiles[0].shape[0], tiles[0].shape[-1]
    picture = tiles[0].new_zeros(batch, layout.rows[-1].core[1], layout.columns[-1].core[1], channels)
    for number, (tile, (row, column)) in enumerate(zip(tiles, places, strict=True)):
        here = picture[:, slice(*layout.rows[row].kept), slice(*layout.columns[column].kept)]
        if tile.shape != here.shape:
            raise UnusableBatch(f"Tile {number} is {list(tile.shape)}; in its place is {list(here.shape)}.")
        mask = rows[row][:, None, None] * columns[column][:, None]
        here.addcmul_(tile.to(here), mask.to(here))
    return picture


def _mask(strip: Strip, size: int, blur: float) -> torch.Tensor:
    """float64 over what is kept of the strip."""
    (start, stop), (first, last) = strip.core, strip.kept
    if blur == 0:
        return torch.ones(last - first, dtype=torch.float64)
    centres = torch.arange(first, last, dtype=torch.float64) + 0.5
    ends = -math.inf if start == 0 else start, math.inf if stop == size else stop
    rising, falling = (torch.special.ndtr((centres - end) / blur) for end in ends)
    difference: torch.Tensor = rising - falling
    return difference
