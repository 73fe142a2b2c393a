"""A picture refined tile by tile by several workers is, bit for bit, what one worker makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from comfy_dist.workflows.ui_format import to_prompt
from tests.distributed.conftest import Workers
from tests.distributed.graphs import upscale
from tests.support.talking import node

pytestmark = pytest.mark.asyncio(loop_scope="session")


def come(at: Path) -> list[str]:
    """Who has refined, once for each tile; more often only where somebody was taken for gone."""
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
        assert len(come(at)) >= tiles
        assert ran.digests == {"digest": alone}


async def test_a_batch_without_pictures_is_handed_on(three: Workers, tmp_path: Path) -> None:
    ran = await three.done(upscale(3, tmp_path, batch=0))
    assert len(ran.digests["digest"]) == 1
    assert not (tmp_path / "come").exists()


async def test_the_same_again_is_refined_by_nobody_and_another_denoise_by_all(
    three: Workers, tmp_path: Path
) -> None:
    first = await three.done(upscale(3, tmp_path, side=130))
    tiles = len(come(tmp_path))
    again = await three.done(upscale(3, tmp_path, side=130))
    assert again.digests == first.digests
    assert len(come(tmp_path)) == tiles
    other = await three.done(upscale(3, tmp_path, side=130, denoise=0.25))
    assert other.digests != first.digests
    assert len(come(tmp_path)) >= 2 * tiles


async def test_each_of_a_fanned_out_batch_is_refined_in_tiles_again(three: Workers, tmp_path: Path) -> None:
    """Inner regions of outer ranks; nobody waits for others, as all may be at work on other pictures."""
    whole = await three.done(upscale(1, batch=3, side=130))
    prompt = upscale(3, batch=3, side=130)
    prompt["out"] = node("ClusterFanOutImage", input=["made", 0])
    prompt["upscale"]["inputs"]["upscaled_image"] = ["out", 0]
    prompt["in"] = node("ClusterFanInImages", input=["upscale", 0])
    prompt["digest"] = node("DistDigest", value=["in", 0])
    assert (await three.done(prompt)).digests == whole.digests


async def test_a_tile_that_fails_fails_the_node_with_its_words(three: Workers) -> None:
    """A link may bring what no page would let through."""
    prompt = upscale(3) | {"width": node("PrimitiveInt", value=8)}
    prompt["upscale"]["inputs"]["tile_width"] = ["width", 0]
    ran = await three.run(prompt)
    assert ran.status == "error"
    assert ran.error["node_id"] == "upscale"
    assert "tile_width is 8 pixels; give 64 or more" in ran.error["exception_message"]
    prompt = upscale(3)
    prompt["positive"] = node("PrimitiveString", value="no conditioning")
    prompt["upscale"]["inputs"]["positive"] = ["as it is", 0]
    prompt["as it is"] = node("DistAsItIs", input=["positive", 0])
    ran = await three.run(prompt)
    assert ran.status == "error"
    assert ran.error["node_id"] == "upscale"


async def test_pages_see_the_node_that_workflows_were_made_with(three: Workers) -> None:
    info = (await three.frontend.get("/object_info/UltimateSDUpscaleDistributed"))["UltimateSDUpscaleDistributed"]
    defaults = {
        name: (more[0] if more else {}).get("default") for name, (_, *more) in info["input"]["required"].items()
    }
    assert defaults == {
        "upscaled_image": None,
        "model": None,
        "positive": None,
        "negative": None,
        "vae": None,
        "seed": 0,
        "steps": 20,
        "cfg": 8.0,
        "sampler_name": None,
        "scheduler": None,
        "denoise": 0.5,
        "tile_width": 512,
        "tile_height": 512,
        "padding": 32,
        "mask_blur": 8,
        "force_uniform_tiles": True,
        "tiled_decode": False,
    }
    assert list(defaults) == info["input_order"]["required"]
    assert info["output"] == ["IMAGE"]
    seed, sampler = (info["input"]["required"][name] for name in ("seed", "sampler_name"))
    assert (seed[1]["min"], seed[1]["max"]) == (0, 2**64 - 1)
    assert "dpmpp_2m_sde" in sampler[0]


async def test_a_saved_workflow_loads_with_the_widgets_that_it_was_saved_with(three: Workers) -> None:
    """An older one has a value more than there are widgets."""
    nodes = await three.frontend.get("/object_info")
    values = [7, "randomize", 9, 7.0, "dpmpp_2m_sde", "karras", 0.6, 1024, 768, 64, 16, True, False, True]
    names = ("upscaled_image", "model", "positive", "negative", "vae")
    types = ("IMAGE", "MODEL", "CONDITIONING", "CONDITIONING", "VAE")
    sockets = [{"name": name, "type": kind, "link": None} for name, kind in zip(names, types, strict=True)]
    saved = {
        "id": 30,
        "type": "UltimateSDUpscaleDistributed",
        "inputs": sockets,
        "outputs": [],
        "widgets_values": values,
        "mode": 0,
    }
    inputs = to_prompt({"nodes": [saved], "links": [], "version": 0.4}, nodes)["30"]["inputs"]
    assert inputs == {
        "seed": 7,
        "steps": 9,
        "cfg": 7.0,
        "sampler_name": "dpmpp_2m_sde",
        "scheduler": "karras",
        "denoise": 0.6,
        "tile_width": 1024,
        "tile_height": 768,
        "padding": 64,
        "mask_blur": 16,
        "force_uniform_tiles": True,
        "tiled_decode": False,
    }


async def test_an_orchestrator_refines_nothing_and_blends_what_the_others_did(
    three: Workers, tmp_path: Path
) -> None:
    alone = await three.done(upscale(1, tmp_path / "alone"))
    prompt = upscale(3, tmp_path / "others")
    prompt["model"]["inputs"]["workers"] = 2
    extra = {"worker": "w0", "distributed": {"participation": "orchestrator-only"}}
    ran = await three.ended(await three.frontend.prompt(prompt, extra_data=extra))
    assert ran.status == "success", ran.error
    assert ran.digests == alone.digests
    assert set(come(tmp_path / "others")) == {"1", "2"}


async def test_before_a_collector_each_worker_has_its_own_picture_refined(three: Workers) -> None:
    """By whoever has time, with the seed of its share."""
    prompt = upscale(3, side=130) | {
        "seed": node("DistributedSeed", seed=5),
        "collect": node("DistributedCollector", images=["upscale", 0], load_balance=False),
        "digest": node("DistDigest", value=["collect", 0]),
    }
    prompt["upscale"]["inputs"]["seed"] = ["seed", 0]
    ran = await three.done(prompt)
    alone = upscale(1, side=130)
    alone |= {f"upscale {seed}": upscale(1, side=130, seed=seed)["upscale"] for seed in (5, 6, 7)}
    alone["two"] = node("ImageBatch", image1=["upscale 5", 0], image2=["upscale 6", 0])
    alone["all"] = node("ImageBatch", image1=["two", 0], image2=["upscale 7", 0])
    alone["digest"] = node("DistDigest", value=["all", 0])
    assert ran.digests == (await three.done(alone)).digests
