"""A picture refined tile by tile by several workers is, bit for bit, what one worker makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.distributed.conftest import Workers
from tests.support.talking import Prompt, node

pytestmark = pytest.mark.asyncio(loop_scope="module")


def upscale(world: int, at: Path | str = "", *, batch: int = 1, side: int = 200, **more: Any) -> Prompt:
    """A picture refined by `world` workers, which wait for each other at `at`."""
    given = {
        "seed": 2**64 - 1,
        "steps": 20,
        "cfg": 8.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 0.5,
        "tile_width": 64,
        "tile_height": 72,
        "padding": 32,
        "mask_blur": 8,
        "force_uniform_tiles": True,
        "tiled_decode": False,
    }
    return {
        "made": node("FaultImages", batch=batch, size=side, seed=3),
        "model": node(f"RefiningModel{world}", at=str(at), workers=world),
        "positive": node("RefiningText", strength=2.0, side=96),
        "negative": node("RefiningText", strength=1.0, side=0),
        "upscale": node(
            "UltimateSDUpscaleDistributed",
            upscaled_image=["made", 0],
            model=["model", 0],
            positive=["positive", 0],
            negative=["negative", 0],
            vae=["model", 1],
            **given | more,
        ),
        "digest": node("DistDigest", value=["upscale", 0]),
    }


def come(at: Path) -> list[str]:
    """Who has refined, once for each tile."""
    return [line.split()[0] for line in (at / "come").read_text().splitlines()]


@pytest.mark.parametrize(
    "more",
    [{}, {"force_uniform_tiles": False, "batch": 3}, {"padding": 0}, {"mask_blur": 0, "side": 130}],
    ids=["by itself", "a batch, tiles of several sizes", "nothing around tiles", "no blur"],
)
async def test_the_picture_is_the_same_however_many_refine_it(
    three: Workers, tmp_path: Path, more: dict[str, Any]
) -> None:
    (alone,) = (await three.done(upscale(1, tmp_path / "1", **more))).digests.values()
    tiles = len(come(tmp_path / "1"))
    assert tiles >= 6
    for world in (2, 3):
        at = tmp_path / str(world)
        ran = await three.done(upscale(world, at, **more))
        assert set(come(at)) == {str(number) for number in range(world)}
        assert len(come(at)) == tiles
        assert ran.digests == {"digest": alone}
