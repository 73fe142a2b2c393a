"""Where the tiles of a picture lie. Pure.

A picture is cut into a grid, so its rows and columns of tiles are laid out each for themselves, along one side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

#: What VAEs of pictures take in one piece.
STEP = 8
#: How far a blur of 1 reaches: beyond 3 standard deviations there is next to nothing of a Gaussian.
_REACH = 3

#: Pixels start … stop (exclusive) of one side.
Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Strip:
    """A row or a column of tiles, along the side that it divides."""

    #: What it is for; the strips of a side share it out.
    core: Span
    #: What is refined: the core with what is around it.
    window: Span
    #: What of that is used: the core, and as far as the blur reaches.
    kept: Span


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile, by its number in reading order."""

    number: int
    row: Strip
    column: Strip


@dataclass(frozen=True, slots=True)
class TileLayout:
    """The grid of a picture."""

    rows: tuple[Strip, ...]
    columns: tuple[Strip, ...]
    #: The standard deviation of the mask's blur, in pixels.
    blur: float

    @classmethod
    def of(
        cls, sides: tuple[int, int], tile: tuple[int, int], padding: int, mask_blur: int, uniform: bool
    ) -> TileLayout:
        """Sides of picture and tile are height, width, in pixels, as is all.

        A blur goes no further than what is refined around a tile, so `padding` bounds it.
        """
        blur = min(mask_blur, padding / _REACH)
        rows, columns = (strips(*each, padding, blur, uniform) for each in zip(sides, tile, strict=True))
        return cls(rows, columns, blur)

    @property
    def tiles(self) -> tuple[Tile, ...]:
        grid = [(row, column) for row in self.rows for column in self.columns]
        return tuple(Tile(number, row, column) for number, (row, column) in enumerate(grid))


def strips(size: int, tile: int, padding: int, blur: float, uniform: bool) -> tuple[Strip, ...]:
    """The strips of a side of `size` pixels, `tile` each, the last with what is left.

    Windows are multiples of STEP, where the side is as long. Uniform: all equally long, those at the edges moved
    inwards; else they end at the edge.
    """
    reach = math.ceil(_REACH * blur)
    found = []
    for start in range(0, size, tile):
        stop = min(start + tile, size)
        first, last = max(0, start - padding), min(size, stop + padding)
        length = math.ceil((tile + 2 * padding if uniform else last - first) / STEP) * STEP
        first = max(0, min(first, size - length))
        window = (first, min(size, first + length))
        found.append(Strip((start, stop), window, (max(0, start - reach), min(size, stop + reach))))
    return tuple(found)
