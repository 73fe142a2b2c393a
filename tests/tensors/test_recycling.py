"""Memory of tensors that are gone serves the next ones, is never shared by two, and is not kept for long."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch

from comfy_dist.tensors.memory import bytes_of, empty
from comfy_dist.tensors.recycling import STEP, Recycling

SIZE = 4 * STEP


@pytest.fixture
def recycling() -> Recycling:
    return Recycling()


def place(array: Any) -> int:
    return int(array.ctypes.data)


def test_the_next_tensor_has_the_memory_of_one_that_is_gone(recycling: Recycling) -> None:
    array = recycling.array(SIZE)
    where = place(array)
    del array
    assert place(recycling.array(SIZE - 5)) == where


def test_what_somebody_still_sees_is_nobody_elses(recycling: Recycling) -> None:
    array = recycling.array(SIZE)
    row = torch.from_numpy(array).view(torch.float32)[7:9]
    where = place(array)
    del array
    row.fill_(3)
    others = [recycling.array(SIZE) for _ in range(3)]
    assert where not in map(place, others)
    for other in others:
        other[:] = 1
    assert row.tolist() == [3, 3]


def test_a_small_one_does_not_take_a_large_one_s(recycling: Recycling) -> None:
    array = recycling.array(SIZE)
    where = place(array)
    del array
    assert place(recycling.array(SIZE // 2 - 1)) != where


def test_what_nobody_wants_goes(recycling: Recycling) -> None:
    arrays = [recycling.array(SIZE) for _ in range(4)]
    arrays.clear()
    gc.collect()
    recycling.trim(most=2 * SIZE)
    assert recycling.kept == 2 * SIZE
    recycling.trim(seconds=0)
    assert recycling.kept == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.complex128, torch.int64])
def test_large_memory_is_of_every_dtype(dtype: torch.dtype) -> None:
    tensor = empty((3, SIZE), dtype)
    assert (tensor.shape, tensor.dtype) == ((3, SIZE), dtype)
    bytes_of(tensor)[:] = bytes(tensor.nbytes)
    assert not tensor.any()
