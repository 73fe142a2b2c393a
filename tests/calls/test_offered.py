"""What is divided among ranks is divided whole, and opening nodes that do not fit each other are named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.calls.offered import (
    UnevenBatches,
    UnusableOffset,
    bounds,
    items_in,
    items_of_all,
    offset_of,
    slice_of,
)
from comfy_dist.calls.shares import Pool


@given(st.integers(0, 40), st.integers(1, 9), st.integers(0, 30))
def test_ranks_with_an_offset_take_the_shares_of_others_and_together_all(
    items: int, world: int, offset: int
) -> None:
    pool = Pool(items, min(world, max(items, 1)), True)
    chunks = [chunk for _ in range(pool.world) if (chunk := pool.take("", 0.0)) is not None]
    shares = [bounds(chunk, items, 0) for chunk in chunks]
    turned = [bounds(chunk, items, offset) for chunk in chunks]
    assert turned == [shares[(rank + offset) % len(shares)] for rank in range(len(shares))]
    assert sorted(item for start, stop in turned for item in range(start, stop)) == list(range(items))


def test_one_batch_is_cut_and_a_list_of_several_values_is_shared_out() -> None:
    batch = torch.arange(12.0).reshape(4, 1, 3, 1)
    (part,) = slice_of([batch], 1, 3)
    assert torch.equal(part, batch[1:3])
    assert slice_of([batch], 0, 4)[0] is batch, "all of it is itself"
    assert (items_in([batch]), items_in([batch, batch]), items_in(["a value"]), items_in([])) == (4, 2, 1, 0)
    assert slice_of(["a", "b", "c"], 1, 3) == ["b", "c"]
    assert slice_of(["a value"], 0, 1) == ["a value"]


def test_opening_nodes_of_unequal_batches_are_both_named() -> None:
    images, masks = torch.zeros(4, 1, 3, 1), torch.zeros(3, 1, 3)
    assert items_of_all({"1": [images], "2": [images]}) == 4
    with pytest.raises(UnevenBatches, match=r"node 1 has 4 .*\[4, 1, 3, 1\].*node 2 has 3 .*\[3, 1, 3\]"):
        items_of_all({"1": [images], "2": [masks]})


@pytest.mark.parametrize("brought", ["abc", None, float("inf"), torch.zeros(2)])
def test_an_offset_that_is_no_number_is_named(brought: Any) -> None:
    assert offset_of("2", "3") == offset_of("2", 3.0) == 3
    with pytest.raises(
        UnusableOffset, match=r"The index_offset of node 2 is a whole number; its link has brought "
    ):
        offset_of("2", brought)
