"""Small inputs for nodes, the same wherever they are made, and a node's results as named arrays.

Imports only numpy: a stock ComfyUI's Python, which records the results, reads this too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One call of a node: arrays in `inputs` are handed to it as tensors, cases as their node's first output."""

    node: str
    #: What is special about it.
    label: str
    inputs: dict[str, Any]
    #: Results are equal, not merely within 1e-5.
    exact: bool = False

    @property
    def name(self) -> str:
        return f"{self.node}/{self.label}"


def case(node: str, label: str, *, exact: bool = False, **inputs: Any) -> Case:
    return Case(node, label, inputs, exact)


def noise(*shape: int, seed: int = 0, low: float = 0.0, high: float = 1.0) -> Array:
    """float32 in low…high; RandomState promises the same numbers for ever."""
    return (low + (high - low) * np.random.RandomState(seed).random_sample(shape)).astype(np.float32)


def bytes_noise(*shape: int, seed: int = 0) -> Array:
    """float32 k / 255, which 8 bits hold exactly."""
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.float32) / np.float32(255)


def blocks(*shape: int, seed: int = 0) -> Array:
    """float32, each 0 or 1."""
    return np.random.RandomState(seed).randint(0, 2, shape).astype(np.float32)


def latent(*shape: int, seed: int = 0, **more: Any) -> dict[str, Any]:
    """A LATENT of samples of this shape, normally distributed."""
    return {"samples": np.random.RandomState(seed).standard_normal(shape).astype(np.float32), **more}


def convert(value: Any, change: Callable[[Array], Any]) -> Any:
    """The value with every array in it changed, through dicts, lists and tuples."""
    if isinstance(value, np.ndarray):
        return change(value)
    if isinstance(value, dict):
        return {key: convert(each, change) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(convert(each, change) for each in value)
    return value


def named(value: Any, name: str) -> Iterable[tuple[str, Array]]:
    """Everything in a result as (path, array): "ImageScale/area/0"; of lists and dicts the length and keys too."""
    if isinstance(value, dict):
        yield f"{name}/keys", np.array(sorted(value), dtype=np.str_)
        for key in sorted(value):
            yield from named(value[key], f"{name}/{key}")
    elif isinstance(value, (list, tuple)):
        yield f"{name}/length", np.array(len(value))
        for index, each in enumerate(value):
            yield from named(each, f"{name}/{index}")
    elif value is None:
        yield name, np.array("None")
    elif hasattr(value, "detach"):
        yield name, value.detach().cpu().contiguous().numpy()
    else:
        yield name, np.array(value)


def packed(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """All in two arrays, their bytes and an index of them: a file of thousands of small ones is mostly headers."""
    index: list[tuple[str, str, tuple[int, ...]]] = []
    parts: list[bytes] = []
    for name, array in arrays.items():
        index.append((name, array.dtype.str, array.shape))
        parts.append(array.tobytes())
    return {"index": np.array(json.dumps(index)), "bytes": np.frombuffer(b"".join(parts), np.uint8)}


def unpacked(file: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays that were `packed`."""
    arrays: dict[str, Array] = {}
    data, start = file["bytes"], 0
    for name, dtype, shape in json.loads(str(file["index"])):
        end = start + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        arrays[name] = data[start:end].view(dtype).reshape(shape)
        start = end
    return arrays
