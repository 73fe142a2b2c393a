"""Tensors on a GPU are held there and come through pinned memory."""

from __future__ import annotations

import pytest
import torch

from comfy_dist.tensors.memory import DTYPES
from comfy_dist.tensors.staging import to_gpu
from tests.tensors.planes import a_plane, ref_of, same_bits

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("shared", [True, False])
async def test_every_dtype_comes_from_the_gpu(shared: bool) -> None:
    options = {} if shared else {"shared": None}
    with a_plane(**options) as holder, a_plane(**options) as reader:
        for dtype in DTYPES.values():
            tensor = torch.randint(0, 2, (12_000_000,), dtype=torch.uint8).view(dtype)
            tensor = tensor[: len(tensor) // 30 * 30].view(30, -1)
            ref = ref_of(holder, tensor.cuda())
            assert same_bits((await reader.pull(ref)).cpu(), tensor), dtype
            assert same_bits((await reader.pull(ref, 7, 20)).cpu(), tensor[7:20]), dtype


async def test_views_on_the_gpu_come_by_rows() -> None:
    tensor = torch.rand(6, 3, 400, 300, device="cuda").permute(0, 2, 3, 1)
    with a_plane() as holder, a_plane() as reader:
        ref = ref_of(holder, tensor)
        assert same_bits((await reader.pull(ref, 1, 5)).cpu(), tensor[1:5].cpu().contiguous())


async def test_what_the_gpu_still_computes_is_waited_for() -> None:
    with a_plane() as holder, a_plane() as reader:
        for _ in range(5):
            large = torch.rand(4096, 4096, device="cuda")
            product = large
            for _ in range(20):
                product = (product @ large).softmax(0)
            ref = ref_of(holder, product)
            assert same_bits((await reader.pull(ref)).cpu(), product.cpu())


async def test_it_stays_on_the_gpu_of_the_reader() -> None:
    with a_plane() as holder, a_plane() as reader:
        assert (await reader.pull(ref_of(holder, torch.rand(5, 1000, device="cuda")))).is_cuda


def test_what_goes_to_the_gpu_is_there_when_it_returns() -> None:
    for size in (0, 1, 2**20, 2**20 + 1, 5 * 2**20 + 7):
        tensor = torch.rand(size)
        assert same_bits(to_gpu(tensor, torch.device("cuda")).cpu(), tensor)
