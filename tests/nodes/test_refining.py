"""What an upscale does with the sampler and the VAE of its process, and what it says where these are of no use."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from comfy_dist.nodes.core.inputs import UnusableInput
from comfy_dist.nodes.distributed.refining import NoSampler, UnusableTile
from comfy_dist.nodes.distributed.tiles import RefineTiles, Tiles
from comfy_dist.nodes.distributed.upscale import UltimateSDUpscaleDistributed

LAYOUT = {"tile_width": 64, "tile_height": 64, "padding": 16, "mask_blur": 4, "force_uniform_tiles": True}
SAMPLING = {
    "model": 0.5,
    "positive": [["p", {}]],
    "negative": [["n", {}]],
    "vae": SimpleNamespace(spacial_compression_encode=lambda: 16),
    "seed": 2**64 - 1,
    "steps": 3,
    "cfg": 7.5,
    "sampler_name": "euler",
    "scheduler": "normal",
    "denoise": 0.25,
    "tiled_decode": False,
}


class VAEEncode:
    FUNCTION = "encode"

    def encode(self, vae: Any, pixels: torch.Tensor) -> tuple[Any]:
        assert all(side % 16 == 0 for side in pixels.shape[1:3])
        return ({"samples": pixels},)


class KSampler:
    """Its `model` is a factor."""

    FUNCTION = "sample"
    asked: list[dict[str, Any]]

    def sample(self, model: float, latent_image: Any, **given: Any) -> tuple[Any]:
        KSampler.asked.append(given)
        return ({"samples": latent_image["samples"] * model},)


class VAEDecode:
    FUNCTION = "decode"

    def decode(self, vae: Any, samples: Any) -> tuple[Any]:
        return (samples["samples"],)


class VAEDecodeTiled(VAEDecode):
    def decode(self, vae: Any, samples: Any, tile_size: int = 0) -> tuple[Any]:
        return (samples["samples"] + tile_size,)


class OfVideos(VAEDecode):
    """Gives a frame less."""

    def decode(self, vae: Any, samples: Any) -> tuple[Any]:
        return (samples["samples"][1:],)


def engine(monkeypatch: pytest.MonkeyPatch, *classes: type, **more: type) -> None:
    """This process has those nodes."""
    named = {each.__name__: each for each in classes} | more
    monkeypatch.setitem(sys.modules, "nodes", SimpleNamespace(NODE_CLASS_MAPPINGS=named))
    KSampler.asked = []


def each_as_list(inputs: dict[str, Any]) -> dict[str, list[Any]]:
    """As engines give them to a node that takes lists."""
    return {name: [value] for name, value in inputs.items()}


def upscaled(picture: torch.Tensor, **more: Any) -> torch.Tensor:
    (image,) = UltimateSDUpscaleDistributed().run(picture, **LAYOUT | SAMPLING | more)
    return image


def test_every_tile_is_sampled_once_with_what_the_node_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    engine(monkeypatch, VAEEncode, KSampler, VAEDecode)
    picture = torch.rand(2, 130, 100, 3)
    torch.testing.assert_close(upscaled(picture), picture * 0.5)
    assert len(KSampler.asked) == 3 * 2
    given = {name: SAMPLING[name] for name in ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise")}
    given |= {"positive": SAMPLING["positive"], "negative": SAMPLING["negative"]}
    assert all(asked == given for asked in KSampler.asked)


def test_it_is_decoded_in_tiles_where_that_is_asked_for_and_there(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = torch.zeros(1, 64, 64, 3)
    engine(monkeypatch, VAEEncode, KSampler, VAEDecode)
    assert upscaled(picture, tiled_decode=True).max() == 0
    engine(monkeypatch, VAEEncode, KSampler, VAEDecode, VAEDecodeTiled)
    assert upscaled(picture, tiled_decode=True).min() == 512
    assert upscaled(picture).max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", [(1, 9, 200, 3), (3, 65, 64, 1), (1, 1, 1, 3)])
def test_small_pictures_of_any_channels_are_filled_up_for_the_vae(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    engine(monkeypatch, VAEEncode, KSampler, VAEDecode)
    picture = torch.rand(shape).to(dtype)
    image = upscaled(picture)
    assert image.dtype == dtype
    torch.testing.assert_close(image, picture * 0.5)


@pytest.mark.parametrize("shape", [(0, 64, 64, 3), (1, 0, 64, 3), (2, 64, 0, 3)])
def test_a_batch_without_pixels_is_handed_on_and_samples_nothing(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    engine(monkeypatch, VAEEncode, KSampler, VAEDecode)
    assert upscaled(torch.rand(shape)).shape == shape
    assert KSampler.asked == []


def test_tiles_refined_one_by_one_in_any_order_make_the_same_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    engine(monkeypatch, VAEEncode, KSampler, VAEDecode)
    picture = torch.rand(1, 200, 150, 3)
    (tiles,) = Tiles().cut(**each_as_list(LAYOUT | {"upscaled_image": picture}))
    sampling = each_as_list(SAMPLING)
    parts = {tile["number"]: RefineTiles().refine(tiles=[[tile]], **sampling)[0] for tile in reversed(tiles)}
    for (part,) in parts.values():
        assert part.untyped_storage().nbytes() == part.nbytes, "it keeps nothing else in memory"
    results = [part for number in sorted(parts) for part in parts[number]]
    (image,) = UltimateSDUpscaleDistributed().run(picture, results, **LAYOUT, **SAMPLING)
    assert torch.equal(image, upscaled(picture))


@pytest.mark.parametrize("name", ["upscaled_image", "tile_width"])
def test_a_list_of_batches_is_refused_by_the_name_of_the_input(name: str) -> None:
    inputs = each_as_list(LAYOUT | {"upscaled_image": torch.rand(1, 64, 64, 3)})
    with pytest.raises(UnusableInput, match=f"with one {name}; it was given a list of 2. Make one batch"):
        Tiles().cut(**inputs | {name: inputs[name] * 2})


def test_models_are_asked_for_only_where_tiles_are_refined_in_place() -> None:
    node = UltimateSDUpscaleDistributed()
    assert node.check_lazy_status(model=None, vae=None, seed=1) == ["model", "positive", "negative", "vae"]
    assert node.check_lazy_status(model=1, positive=[], negative=[], vae=2, seed=1) == []
    assert node.check_lazy_status(results=[], model=None, vae=None) == []


def test_an_engine_without_samplers_says_which_workers_can(monkeypatch: pytest.MonkeyPatch) -> None:
    engine(monkeypatch, VAEEncode)
    with pytest.raises(NoSampler, match="KSampler, VAEDecode are not there"):
        upscaled(torch.rand(1, 64, 64, 3))
    monkeypatch.setitem(sys.modules, "nodes", None)
    with pytest.raises(
        NoSampler, match=r"VAEEncode, .* Let workers with the engine comfyui execute this workflow"
    ):
        upscaled(torch.rand(1, 64, 64, 3))


def test_a_tile_that_comes_back_as_another_is_an_error_with_both_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    engine(monkeypatch, VAEEncode, KSampler, VAEDecode=OfVideos)
    with pytest.raises(
        UnusableTile, match="A tile of 2 images, 64 x 64 each, came back from the VAE as 1 of 64 x"
    ):
        upscaled(torch.rand(2, 64, 64, 3))
