"""The safetensors format: a u64 of the header's length, the header in JSON, and the tensors' bytes.

All little-endian. The header is {name: {"dtype", "shape", "data_offsets": [begin, end]}} and {"__metadata__":
{str: str}}; offsets count from its end, and the tensors lie one behind the other without gaps
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from io import BufferedIOBase
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import torch

from comfy_dist.errors import ComfyDistError

#: As the format's own reader: a longer header is no header.
MAX_HEADER_BYTES = 100_000_000

_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "F32": torch.float32,
    "C64": torch.complex64,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_METADATA = "__metadata__"


class NotStorable(ComfyDistError):
    """A tensor of a type that the format does not have."""


class BrokenFile(ComfyDistError):
    """A file that is not what its name says."""


def encode(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A file's content; tensors may lie on any device. Raises NotStorable."""
    header: dict[str, Any] = {} if metadata is None else {_METADATA: dict(metadata)}
    parts: list[bytes] = []
    end = 0
    # The widest first keeps each aligned to its own width.
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        if tensor.dtype not in _NAMES:
            raise NotStorable(f"Safetensors files hold no tensors of {tensor.dtype}; convert {name!r} to float32.")
        data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + len(data)],
        }
        parts.append(data)
        end += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, *parts))


def load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors, on the CPU, and the metadata. Raises BrokenFile for anything else than such a file, OSError."""
    with path.open("rb") as file:
        return read(file, path.stat().st_size, path.name)


def read(file: BufferedIOBase, length: int, called: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """As `load`, of an open file of so many bytes; `called` is what errors call it."""
    header, size = _header(file, length, called)
    metadata = header.pop(_METADATA, {})
    if not _is_text(metadata):
        _refuse(called, "its metadata is not text")
    places = {name: _place(name, entry, called) for name, entry in header.items()}
    ends = sorted((begin, end) for _, _, begin, end in places.values())
    if any(end != begin for (_, end), (begin, _) in pairwise([(0, 0), *ends, (size, size)])):
        _refuse(called, "its tensors do not fill it without gaps")
    data = bytearray(size)
    if file.readinto(data) != size:
        _refuse(called, "it ends early")
    return {name: _tensor(data, *place) for name, place in places.items()}, metadata


def _header(file: BufferedIOBase, length: int, called: str) -> tuple[dict[str, Any], int]:
    """The header, and how many bytes follow it."""
    described = int.from_bytes(file.read(8), "little")
    rest = length - 8 - described
    if described > MAX_HEADER_BYTES or rest < 0:
        _refuse(called, "it has no header")
    try:
        header = json.loads(file.read(described).decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        _refuse(called, "its header is not JSON")
    if not isinstance(header, dict):
        _refuse(called, "its header is not an object")
    return header, rest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _is_text(metadata: Any) -> bool:
    return isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())


def _place(name: str, entry: Any, called: str) -> tuple[torch.dtype, list[int], int, int]:
    """(dtype, shape, begin, end) of a tensor, in agreement with each other."""
    match entry:
        case {"dtype": str(dtype_name), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            dtype = _DTYPES.get(dtype_name)
        case _:
            _refuse(called, f"{name!r} is not described as a tensor")
    if dtype is None:
        _refuse(called, f"{name!r} is of the type {dtype_name}, which is not read here")
    # Beyond 63 bits torch does not count, not even where another side is 0.
    if not all(type(side) is int and side >= 0 for side in shape) or math.prod(max(1, s) for s in shape) >> 63:
        _refuse(called, f"{name!r} has no shape")
    if not 0 <= begin <= end or end - begin != math.prod(shape) * dtype.itemsize:
        _refuse(called, f"{name!r} is not as long as its shape")
    return dtype, shape, begin, end


def _tensor(data: bytearray, dtype: torch.dtype, shape: list[int], begin: int, end: int) -> torch.Tensor:
    if begin == end:
        return torch.empty(shape, dtype=dtype)
    # A copy: others' files need not be aligned.
    flat = torch.frombuffer(data, dtype=torch.uint8, offset=begin, count=end - begin).clone()
    return flat.view(dtype).reshape(shape)


def _refuse(called: str, why: str) -> NoReturn:
    raise BrokenFile(f"{called} is not a safetensors file: {why}.")
