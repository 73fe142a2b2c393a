"""Batches that were cut and joined are what they were, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_dist.tensors.batches import UnusableBatch, cut, items_of, join

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.int64, torch.bool]
Draw = Callable[..., Any]


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator) * 256 - 64).to(dtype)


def same(one: Any, other: Any) -> bool:
    """Equal in type, keys, order, shape, dtype and every bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


@st.composite
def images(draw: Draw) -> torch.Tensor:
    shape = draw(st.integers(0, 9)), 3, 2, draw(st.sampled_from([1, 3, 4]))
    return numbers(*shape, dtype=draw(st.sampled_from(DTYPES)))


@st.composite
def masks(draw: Draw) -> torch.Tensor:
    return numbers(draw(st.integers(0, 9)), 3, 2)


@st.composite
def latents(draw: Draw) -> dict[str, Any]:
    """Of pictures, videos and sounds, with all that may go with them."""
    items = draw(st.integers(0, 9))
    shape = draw(st.sampled_from([(4, 2, 2), (4, 3, 2, 2), (8, 5)]))
    latent: dict[str, Any] = {"samples": numbers(items, *shape)}
    rows = draw(st.sampled_from([None, 1, max(items, 1), 2, 3, 12]))
    if rows is not None:
        # Masks of pictures, of a video's frames or items, and one without a batch; all alike or not.
        form = draw(st.sampled_from([(rows, 1, 4, 4), (rows, 4, 4), (rows, 1, 1, 4, 4), (4, 4)]))
        latent["noise_mask"] = draw(st.sampled_from([numbers(*form), torch.zeros(form)]))
    if draw(st.booleans()):
        latent["batch_index"] = draw(st.lists(st.integers(0, 50), min_size=items, max_size=items))
    if draw(st.booleans()):
        latent |= {"per_item": numbers(items, 2), "everyones": numbers(17), "type": "audio"}
    return latent


batches = st.one_of(images(), masks(), latents(), st.lists(st.integers(), max_size=9))


@settings(max_examples=150)
@given(batch=batches, data=st.data())
def test_what_was_cut_anywhere_is_joined_to_what_it_was(batch: Any, data: st.DataObject) -> None:
    items = items_of(batch)
    inner = data.draw(st.lists(st.integers(0, items), max_size=8).map(sorted))
    bounds = [0, *inner, items]
    parts = [cut(batch, start, stop) for start, stop in pairwise(bounds)]
    assert sum(map(items_of, parts)) == items
    assert same(join(parts, batch), batch)


@given(latent=latents(), data=st.data())
def test_a_slice_says_which_noise_it_would_have_drawn(latent: dict[str, Any], data: st.DataObject) -> None:
    items = items_of(latent)
    start, stop = sorted(data.draw(st.tuples(st.integers(0, items), st.integers(0, items))))
    part = cut(latent, start, stop)
    where = latent.get("batch_index", list(range(items)))[start:stop]
    if (start, stop) == (0, items):
        assert part is latent
    else:
        assert part["batch_index"] == where
    # A slice of a slice still does.
    if part.get("batch_index") is not None and stop - start > 1:
        assert cut(part, 1, stop - start)["batch_index"] == where[1:]


@given(latent=latents(), data=st.data())
def test_every_item_keeps_its_mask(latent: dict[str, Any], data: st.DataObject) -> None:
    items = items_of(latent)
    mask = latent.get("noise_mask")
    if mask is None or items == 0 or mask.ndim < 3 or (latent["samples"].ndim == 5 and mask.ndim < 5):
        return
    index = data.draw(st.integers(0, items - 1))
    part = cut(latent, index, index + 1)
    assert same(part["noise_mask"][0], mask[index % mask.shape[0]] if items > 1 else mask[0])


def latent(items: int, **more: Any) -> dict[str, Any]:
    return {"samples": numbers(items, 4, 2, 2), **more}


def test_positions_that_a_region_changed_are_kept() -> None:
    whole = latent(3)
    parts = [{**cut(whole, 0, 2), "batch_index": [7, 7]}, {**cut(whole, 2, 3), "batch_index": [7]}]
    assert join(parts, whole)["batch_index"] == [7, 7, 7]
    assert join([cut(whole, 0, 2), cut(whole, 2, 3)])["batch_index"] == [0, 1, 2]
    del parts[1]["batch_index"]
    assert join(parts, whole)["batch_index"] == [7, 7, 2]


def test_a_mask_made_on_the_way_is_joined_as_one_worker_would_have_made_it() -> None:
    whole = latent(4)
    parts = [cut(whole, 0, 2), cut(whole, 2, 4)]
    everyones = numbers(1, 1, 4, 4)
    assert same(join([{**part, "noise_mask": everyones} for part in parts], whole)["noise_mask"], everyones)
    own = [{**part, "noise_mask": numbers(2, 1, 4, 4, seed=seed)} for seed, part in enumerate(parts)]
    expected = torch.cat([part["noise_mask"] for part in own])
    assert same(join(own, whole)["noise_mask"], expected)
    # Where only one has a mask, all of the others' pictures is denoised.
    assert same(join([parts[0], own[1]], whole)["noise_mask"][2:], own[1]["noise_mask"])
    assert join([parts[0], own[1]], whole)["noise_mask"][:2].eq(1).all()


@pytest.mark.parametrize("more", [(), (2,), (2, 3), (2, 3, 4)])
def test_what_a_latent_carries_beside_goes_with_its_items(more: tuple[int, ...]) -> None:
    whole = latent(3, beside=numbers(3, *more))
    parts = [cut(whole, start, start + 1) for start in range(3)]
    assert [part["beside"].shape for part in parts] == [(1, *more)] * 3
    assert same(join(parts, whole), whole)


def test_lists_are_joined_in_order() -> None:
    assert join([["a"], [], ["b", None]]) == ["a", "b", None]


def test_slices_of_tensors_are_views() -> None:
    image = numbers(4, 8, 8, 3)
    assert cut(image, 1, 3).data_ptr() == image[1].data_ptr()
    assert cut({"samples": image}, 1, 3)["samples"].data_ptr() == image[1].data_ptr()


def test_one_mask_without_a_batch_is_one_item() -> None:
    mask = numbers(4, 4)
    assert items_of(mask) == 1
    assert cut(mask, 0, 1) is mask
    assert items_of(cut(mask, 1, 1)) == 0


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ([numbers(1, 4, 4, 3), numbers(1, 2, 4, 3)], r"\[1, 4, 4, 3\] and a tensor \[1, 2, 4, 3\]"),
        ([numbers(4, 4), numbers(4, 4)], r"a tensor \[4, 4\]"),
        ([latent(1), numbers(1, 4, 4)], r"a latent \[1, 4, 2, 2\] and a tensor \[1, 4, 4\]"),
        ([latent(1), {"samples": numbers(1, 4, 3, 2)}], r"\[1, 4, 2, 2\] and a tensor \[1, 4, 3, 2\]"),
        ([1, 2], "the type int"),
        ([], "nothing to join"),
    ],
)
def test_what_is_no_batch_together_is_named(parts: list[Any], named: str) -> None:
    with pytest.raises(UnusableBatch, match=named):
        join(parts)


@pytest.mark.parametrize("value", [None, 3, {"waveform": numbers(1, 2, 3)}, {"samples": [1]}, object()])
def test_what_cannot_be_divided_is_named(value: Any) -> None:
    with pytest.raises(UnusableBatch, match=type(value).__name__):
        items_of(value)


@pytest.mark.parametrize("bounds", [(-1, 2), (2, 1), (0, 4)])
def test_a_slice_out_of_range_is_named(bounds: tuple[int, int]) -> None:
    with pytest.raises(UnusableBatch, match="has 3"):
        cut(numbers(3, 2, 2, 1), *bounds)
