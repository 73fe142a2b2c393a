"""Tensors as plain memory: dtypes by name, bytes without a copy, and fresh memory that is fast to fill."""

from __future__ import annotations

import mmap
from math import prod

import torch

from comfy_dist.tensors.errors import CannotTravel
from comfy_dist.tensors.recycling import recycling

#: By the names that references carry. torch versions differ in which they have.
DTYPES: dict[str, torch.dtype] = {
    name: found
    for name in (
        *("float64", "float32", "float16", "bfloat16", "complex128", "complex64", "bool"),
        *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
        *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
    )
    if isinstance(found := getattr(torch, name, None), torch.dtype)
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
#: Bytes from which memory comes in huge pages: a small page costs more time than the bytes that fill it.
_HUGE = 4 * 2**20


def name_of(tensor: torch.Tensor) -> str:
    """The name of its dtype. Raises CannotTravel for tensors that are not plain memory."""
    name = NAMES.get(tensor.dtype)
    if name is None or tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        raise CannotTravel(f"a tensor of dtype {tensor.dtype}, layout {tensor.layout} on {tensor.device}")
    return name


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The same values contiguous in memory, without gradient; a copy only if they are not yet so."""
    return tensor.detach().resolve_conj().resolve_neg().contiguous()


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU, not copied; writes go into the tensor."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Uninitialised memory on the CPU, in huge pages where it is large and the system has them."""
    size = prod(shape) * dtype.itemsize
    if size < _HUGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(recycling.array(size)).view(dtype).view(shape)
