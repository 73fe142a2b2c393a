"""What the tile engine of an upscale costs besides sampling: cutting a picture into tiles, and blending them.

Tiles of 512 with 32 around them and a mask blur of 8, on pictures of 2048 and of 4096 pixels a side, which has
four times the tiles. Beside the time of each tile the memory beyond the picture that is made.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.figures import p50, report

ROUNDS = 7
SIDES = (2048, 4096)
LAYOUT = {"tile_width": 512, "tile_height": 512, "padding": 32, "mask_blur": 8, "force_uniform_tiles": True}
MEGABYTE = 1e6


async def run() -> None:
    import torch

    torch.set_num_threads(1)
    figures = {side: _measured(side) for side in SIDES}
    small, large = SIDES
    for side in SIDES:
        per_tile, copy, extra, tile = figures[side]
        what = f"{side}²: tiles of 512 cut, kept and blended, each"
        report("-", what, per_tile * 1e3, "ms", yardstick=copy * 1e3, of="a copy of as many pixels")
        what = f"{side}²: peak memory beyond the picture and its tiles"
        report("-", what, extra / MEGABYTE, "MB", yardstick=tile / MEGABYTE, of="one tile", bound="<= 2")
    what = f"time of a tile, of {large}² against {small}²"
    report("-", what, figures[large][0] / figures[small][0], "times", bound="<= 1.25")


def _measured(side: int) -> tuple[float, float, int, int]:
    """Seconds for a tile and for a copy of as many pixels, and bytes: of peak memory besides, and of a tile."""
    import torch

    from comfy_dist.nodes.distributed.tile_blending import blend
    from comfy_dist.nodes.distributed.tiles import layout_of, tiles_of

    picture = torch.rand(1, side, side, 3)
    layout = layout_of(picture, LAYOUT)

    def kept() -> list[torch.Tensor]:
        """As if refined: what a rank gives back of each."""
        tiles = zip(tiles_of(picture, layout), layout.tiles, strict=True)
        return [
            tile["pixels"][
                :,
                at.row.kept[0] - at.row.window[0] : at.row.kept[1] - at.row.window[0],
                at.column.kept[0] - at.column.window[0] : at.column.kept[1] - at.column.window[0],
            ].contiguous()
            for tile, at in tiles
        ]

    times, copies = [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        blend(kept(), layout)
        times.append((time.perf_counter() - began) / len(layout.tiles))
        began = time.perf_counter()
        picture.clone()
        copies.append((time.perf_counter() - began) / len(layout.tiles))
    tiles = kept()
    Path("/proc/self/clear_refs").write_text("5")
    before = _high()
    blended = blend(tiles, layout)
    return p50(times), p50(copies), max(0, _high() - before - blended.nbytes), max(tile.nbytes for tile in tiles)


def _high() -> int:
    """The peak of resident memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
