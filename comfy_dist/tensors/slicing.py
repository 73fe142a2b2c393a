"""A stretch of a tensor's elements, in the order they are counted, without copying the rest of it."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from comfy_dist.tensors.memory import bytes_of, plain
from comfy_dist.tensors.staging import staged
from comfy_dist.tensors.store import HeldTensor

#: Bytes that are made contiguous, encoded or copied from a GPU at a time. Every dtype's size divides it.
PIECE = 4 * 2**20


def elements(tensor: torch.Tensor, first: int, last: int) -> torch.Tensor:
    """Elements `first` to `last` of the flattened tensor, contiguous, on its device; a view where they lie so."""
    if tensor.is_contiguous():
        return plain(tensor.reshape(-1)[first:last])
    size = tensor.numel() // tensor.shape[0]
    top, bottom = -(-first // size), last // size
    if top > bottom:
        # Within one row.
        return elements(tensor[bottom], first - bottom * size, last - bottom * size)
    parts = []
    if first < top * size:
        parts.append(elements(tensor[top - 1], first - (top - 1) * size, size))
    if top < bottom:
        parts.append(plain(tensor[top:bottom]).reshape(-1))
    if bottom * size < last:
        parts.append(elements(tensor[bottom], 0, last - bottom * size))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def stretches(tensor: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """All elements, in flat contiguous tensors of `size` elements and one of the rest."""
    for first in range(0, tensor.numel(), size):
        yield elements(tensor, first, min(first + size, tensor.numel()))


def memory_of(held: HeldTensor, tensor: torch.Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor that is held, or of rows of it: its own memory where that is possible. Each is valid
    until the next."""
    step = PIECE // tensor.itemsize
    if tensor.is_cuda:
        yield from staged(stretches(tensor, step), tensor.device, held.ready)
    elif tensor.is_contiguous() and not (tensor.is_conj() or tensor.is_neg()):
        yield bytes_of(tensor)
    else:
        yield from map(bytes_of, stretches(tensor, step))
