"""Laws of the nodes of latents, whatever the latent."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.nodes.core.latent_arithmetic import (
    LatentAdd,
    LatentConcat,
    LatentCut,
    LatentInterpolate,
    LatentMultiply,
    LatentSubtract,
)
from comfy_dist.nodes.core.latent_batches import (
    LatentBatch,
    LatentBatchSeedBehavior,
    LatentFromBatch,
    RebatchLatents,
    RepeatLatentBatch,
    TrimVideoLatent,
)
from comfy_dist.nodes.core.latent_compositing import (
    LatentBlend,
    LatentComposite,
    LatentCompositeMasked,
    SetLatentNoiseMask,
    faded,
)
from comfy_dist.nodes.core.latent_transforms import (
    LatentCrop,
    LatentFlip,
    LatentRotate,
    LatentUpscale,
    LatentUpscaleBy,
)
from tests.nodes.drawing import laws

#: Whatever their aspects, something is left when one is cut to that of another.
SQUARISH = (4, 9)
ROTATIONS = ("none", "90 degrees", "180 degrees", "270 degrees")
FLIPS = ("x-axis: vertically", "y-axis: horizontally")


@st.composite
def latents(draw: st.DrawFn, batch: int | None = None, sides: tuple[int, int] = (1, 9)) -> dict[str, Any]:
    """An image's latent, with or without mask and batch_index."""
    size = draw(st.integers(1, 5)) if batch is None else batch
    height, width = draw(st.integers(*sides)), draw(st.integers(*sides))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    latent: dict[str, Any] = {"samples": torch.randn(size, 4, height, width, generator=generator)}
    if draw(st.booleans()):
        count = draw(st.sampled_from((1, size)))
        latent["noise_mask"] = torch.rand(count, 1, height * 8, width * 8, generator=generator)
    if draw(st.booleans()):
        latent["batch_index"] = draw(st.lists(st.integers(0, 99), min_size=size, max_size=size))
    return latent


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[key]) if isinstance(value, torch.Tensor) else value == second[key]
        for key, value in first.items()
    )


@laws
@given(latents(), st.sampled_from(ROTATIONS), st.sampled_from(ROTATIONS))
def test_turns_add_up(latent: dict[str, Any], first: str, second: str) -> None:
    (turned,) = LatentRotate().rotate(LatentRotate().rotate(latent, first)[0], second)
    total = ROTATIONS[(ROTATIONS.index(first) + ROTATIONS.index(second)) % 4]
    assert same(turned, LatentRotate().rotate(latent, total)[0])


@laws
@given(latents())
def test_flipping_twice_changes_nothing_and_both_ways_is_a_half_turn(latent: dict[str, Any]) -> None:
    flip = LatentFlip().flip
    for method in FLIPS:
        assert same(flip(flip(latent, method)[0], method)[0], latent)
    assert same(flip(flip(latent, FLIPS[0])[0], FLIPS[1])[0], LatentRotate().rotate(latent, ROTATIONS[2])[0])


@laws
@given(latents(sides=(8, 12)), st.sampled_from(("nearest-exact", "bilinear", "area", "bicubic")))
def test_resizing_to_the_same_size_changes_nothing(latent: dict[str, Any], method: str) -> None:
    height, width = latent["samples"].shape[-2:]
    (by_size,) = LatentUpscale().upscale(latent, method, width * 8, height * 8, "center")
    (by_factor,) = LatentUpscaleBy().upscale(latent, method, 1.0)
    for resized in (by_size, by_factor):
        assert torch.allclose(resized["samples"], latent["samples"], atol=1e-6)


@laws
@given(latents(sides=(8, 12)), latents(batch=1, sides=(8, 9)), st.integers(0, 40), st.integers(0, 40))
def test_what_is_put_on_is_cut_out_again(below: dict[str, Any], above: dict[str, Any], x: int, y: int) -> None:
    before = below["samples"].clone()
    (both,) = LatentComposite().composite(below, above, x, y, 0)
    part = both["samples"][:, :, y // 8 :, x // 8 :]
    height, width = above["samples"].shape[-2:]
    shown = above["samples"][:, :, : part.shape[2], : part.shape[3]]
    assert torch.equal(part[:, :, :height, :width], shown.expand(part.shape[0], -1, -1, -1))
    assert torch.equal(both["samples"][:, :, : y // 8], before[:, :, : y // 8])
    assert torch.equal(below["samples"], before)
    (masked,) = LatentCompositeMasked().composite(below, above, x, y, False)
    assert torch.allclose(masked["samples"], both["samples"])
    (hidden,) = LatentCompositeMasked().composite(below, above, x, y, False, torch.zeros(1, 8, 8))
    assert torch.allclose(hidden["samples"], before)


@laws
@given(latents(sides=(8, 12)), st.integers(64, 96), st.integers(64, 96), st.integers(0, 99), st.integers(0, 99))
def test_a_crop_is_a_part_of_at_least_64_pixels(
    latent: dict[str, Any], width: int, height: int, x: int, y: int
) -> None:
    (cropped,) = LatentCrop().crop(latent, width, height, x, y)
    rows, columns = cropped["samples"].shape[-2:]
    assert 8 <= rows <= height // 8
    assert 8 <= columns <= width // 8
    everywhere = latent["samples"].unfold(2, rows, 1).unfold(3, columns, 1)
    assert (everywhere == cropped["samples"][:, :, None, None]).flatten(4).all(-1).all(0).all(0).any()


@laws
@given(st.integers(1, 20), st.integers(1, 20))
def test_edges_fade_alike_from_both_sides(length: int, feather: int) -> None:
    start, end = faded(length, feather, True, False), faded(length, feather, False, True)
    assert torch.equal(faded(length, feather, False, False), torch.ones(length))
    assert start[0] == pytest.approx(1 / feather)
    assert (start.diff() >= 0).all()
    for weights in (start, end):
        assert ((weights > 0) & (weights <= 1)).all()
    if feather <= length:
        assert torch.equal(start, end.flip(0))
        assert torch.equal(faded(length, feather, True, True), start * end)


@laws
@given(latents(batch=2, sides=SQUARISH), latents(sides=SQUARISH), st.floats(0.1, 10))
def test_sums_differences_and_products_undo_each_other(
    first: dict[str, Any], second: dict[str, Any], factor: float
) -> None:
    (total,) = LatentAdd().execute(first, second)
    (back,) = LatentSubtract().execute(total, second)
    assert torch.allclose(back["samples"], first["samples"], atol=1e-5)
    (doubled,) = LatentAdd().execute(first, first)
    assert torch.equal(doubled["samples"], LatentMultiply().execute(first, 2.0)[0]["samples"])
    (scaled,) = LatentMultiply().execute(LatentMultiply().execute(first, factor)[0], 1 / factor)
    assert torch.allclose(scaled["samples"], first["samples"], atol=1e-5)
    assert {key: value for key, value in total.items() if key != "samples"} == {
        key: value for key, value in first.items() if key != "samples"
    }


@laws
@given(latents(batch=1, sides=SQUARISH), latents(batch=1, sides=SQUARISH))
def test_the_ends_of_a_blend_are_what_is_blended(first: dict[str, Any], second: dict[str, Any]) -> None:
    for blended in (
        LatentBlend().blend(first, second, 1.0)[0],
        LatentInterpolate().execute(first, second, 1.0)[0],
    ):
        assert torch.allclose(blended["samples"], first["samples"], atol=1e-5)
    (half,) = LatentInterpolate().execute(first, first, 0.5)
    assert torch.allclose(half["samples"], first["samples"], atol=1e-5)


@laws
@given(latents(), latents(), st.sampled_from(("x", "y")), st.booleans())
def test_what_is_concatenated_is_cut_apart_again(
    first: dict[str, Any], second: dict[str, Any], dim: str, reverse: bool
) -> None:
    height, width = first["samples"].shape[-2:]
    other = {"samples": second["samples"][:1].repeat(1, 1, 9, 9)[:, :, :height, :width]}
    other["samples"] = torch.nn.functional.interpolate(other["samples"], size=(height, width))
    (both,) = LatentConcat().execute(first, other, f"-{dim}" if reverse else dim)
    size = width if dim == "x" else height
    (cut,) = LatentCut().execute(both, dim, size if reverse else 0, size)
    assert same(cut, first)
    (from_end,) = LatentCut().execute(both, dim, -size if reverse else -2 * size, size)
    assert same(from_end, first)


@laws
@given(latents(), st.data())
def test_a_batch_taken_apart_is_put_together_again(latent: dict[str, Any], data: st.DataObject) -> None:
    size = latent["samples"].shape[0]
    at = data.draw(st.integers(0, size))
    parts = [
        LatentFromBatch().frombatch(latent, start, length)[0]
        for start, length in ((0, at), (at, size - at))
        if length
    ]
    whole = parts[0] if len(parts) == 1 else LatentBatch().execute(*parts)[0]
    assert torch.equal(whole["samples"], latent["samples"])
    assert whole["batch_index"] == latent.get("batch_index", list(range(size)))
    (again,) = LatentFromBatch().frombatch(RepeatLatentBatch().repeat(latent, 3)[0], size, size)
    assert torch.equal(again["samples"], latent["samples"])


@laws
@given(latents(), st.integers(1, 4))
def test_repetitions_get_noise_of_their_own(latent: dict[str, Any], amount: int) -> None:
    size = latent["samples"].shape[0]
    numbered = {**latent, "batch_index": list(range(7, 7 + size))}
    (repeated,) = RepeatLatentBatch().repeat(numbered, amount)
    assert repeated["batch_index"] == list(range(7, 7 + size * amount))
    (fixed,) = LatentBatchSeedBehavior().execute(repeated, "fixed")
    assert fixed["batch_index"] == [7] * size * amount
    (random,) = LatentBatchSeedBehavior().execute(fixed, "random")
    assert "batch_index" not in random


@laws
@given(st.lists(latents(sides=(1, 2)), max_size=6), st.integers(1, 7))
def test_rebatching_keeps_every_latent_in_order(given: list[dict[str, Any]], size: int) -> None:
    (batches,) = RebatchLatents().execute(given, [size])
    flat = [each for latent in given for each in latent["samples"]]
    kept = [each for batch in batches for each in batch["samples"]]
    assert len(kept) == len(flat)
    assert all(torch.equal(first, second) for first, second in zip(flat, kept, strict=True))
    for batch, following in zip(batches, [*batches[1:], None], strict=False):
        count = batch["samples"].shape[0]
        assert len(batch["batch_index"]) == count <= size
        if "noise_mask" in batch:
            assert batch["noise_mask"].shape[0] == count
        if following is not None and count < size:
            assert following["samples"].shape[-2:] != batch["samples"].shape[-2:]


@laws
@given(latents(), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))
def test_a_mask_is_kept_for_the_sampler(latent: dict[str, Any], count: int, height: int, width: int) -> None:
    mask = torch.rand(count, height, width)
    (masked,) = SetLatentNoiseMask().set_mask(latent, mask)
    assert torch.equal(masked["noise_mask"][:, 0], mask)
    assert masked["samples"] is latent["samples"]
    assert SetLatentNoiseMask().set_mask(latent, mask[0])[0]["noise_mask"].shape == (1, 1, height, width)


@laws
@given(st.integers(1, 6), st.integers(0, 9))
def test_trimming_leaves_the_last_frames(frames: int, amount: int) -> None:
    samples = torch.arange(frames).reshape(1, 1, frames, 1, 1)
    (trimmed,) = TrimVideoLatent().execute({"samples": samples}, amount)
    assert trimmed["samples"].flatten().tolist() == list(range(amount, frames))
