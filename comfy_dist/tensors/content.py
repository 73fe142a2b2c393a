"""What a value contains, as one hash: equal for equal values in any process."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch

from comfy_dist.tensors.memory import bytes_of, name_of, plain
from comfy_dist.tensors.packing import pack
from comfy_dist.tensors.ref import TensorRef


def content_of(value: Any) -> str:
    """sha256 over structure, dtypes, shapes and every bit, in hex. Long for large values, so call it in a thread:
    it holds no interpreter lock while it reads tensors. Raises CannotTravel."""
    structure = json.dumps(pack(value, _hashed), sort_keys=True, allow_nan=False)
    return hashlib.sha256(structure.encode()).hexdigest()


def nbytes_of(value: Any) -> int:
    """Bytes of the tensors in a value that can travel, which is what hashing and moving it takes."""
    match value:
        case torch.Tensor() | np.ndarray():
            return int(value.nbytes)
        case bytes() | bytearray() | memoryview() | str():
            return len(value)
        case dict():
            return sum(map(nbytes_of, value.values()))
        case list() | tuple():
            return sum(map(nbytes_of, value))
    return 0


def _hashed(tensor: torch.Tensor) -> TensorRef:
    """Stands in the packed value for the tensor."""
    digest = hashlib.sha256(bytes_of(plain(tensor).cpu())).hexdigest()
    return TensorRef(
        id=digest,
        shape=tuple(tensor.shape),
        dtype=name_of(tensor),
        nbytes=tensor.nbytes,
        device="",
        host="",
        address="",
        via="",
        token="",
        expires=0,
    )
