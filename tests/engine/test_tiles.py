"""Tiles cover the picture, and fade into each other without a trace."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_dist.engine.graph.tiles import tile_count, tile_starts, tiled


@st.composite
def sides(draw: st.DrawFn) -> tuple[int, int, int]:
    """(length, tile, overlap) of one side, overlaps smaller than tiles."""
    tile = draw(st.integers(2, 12))
    return draw(st.integers(1, 30)), tile, draw(st.integers(0, tile - 1))


@given(sides())
def test_tiles_cover_a_side_to_its_end(side: tuple[int, int, int]) -> None:
    length, tile, overlap = side
    starts = tile_starts(length, tile, overlap)
    assert len(starts) == tile_count(length, tile, overlap)
    covered = {place for start in starts for place in range(start, min(start + tile, length))}
    assert covered == set(range(length))
    assert len(starts) == 1 or length > tile


@settings(max_examples=40)
@given(st.data())
def test_what_is_done_to_tiles_is_done_to_the_whole(data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, 3))
    tile = (data.draw(st.integers(overlap + 1, 9)), data.draw(st.integers(overlap + 1, 9)))
    scale = data.draw(st.sampled_from([1, 2, 3]))
    samples = torch.rand(
        data.draw(st.integers(1, 2)), 2, data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20))
    )
    seen: list[tuple[int, ...]] = []

    def enlarge(each: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(each.shape[-2:]))
        return each.repeat_interleave(scale, -2).repeat_interleave(scale, -1)

    steps: list[int] = []
    made = tiled(
        samples,
        enlarge,
        tile,
        overlap=overlap,
        scale=scale,
        channels=2,
        device="cpu",
        on_tile=lambda: steps.append(1),
    )
    assert torch.allclose(made, enlarge(samples), atol=1e-5)
    assert all(height <= tile[0] and width <= tile[1] for height, width in seen[:-1])
    assert len(steps) == len(seen) - 1
