"""`node_helpers`: small things that several nodes do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from PIL import ImageFile

_T = TypeVar("_T")


def conditioning_set_values(
    conditioning: Sequence[Any], values: Mapping[str, Any] | None = None, append: bool = False
) -> list[Any]:
    """[[tensor, options], …] with `values` set in each one's options, or added to what is there."""
    result = []
    for tensor, options, *_ in conditioning:
        changed = dict(options)
        for key, value in (values or {}).items():
            old = changed.get(key) if append else None
            changed[key] = value if old is None else old + value
        result.append([tensor, changed])
    return result


def pillow(fn: Callable[[Any], _T], arg: Any) -> _T:
    """fn(arg), a second time with truncated files let through where Pillow refuses."""
    try:
        return fn(arg)
    except (OSError, ValueError):
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            return fn(arg)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


def hasher() -> Callable[..., Any]:
    return hashlib.sha256


def string_to_torch_dtype(string: str) -> torch.dtype | None:
    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}.get(string)


def image_alpha_fix(destination: torch.Tensor, source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both, [B, H, W, C], with the destination's number of channels; an alpha that the source lacks is opaque."""
    lacking = destination.shape[-1] - source.shape[-1]
    if lacking <= 0:
        return destination, source[..., : destination.shape[-1]]
    return destination, torch.nn.functional.pad(source, (0, lacking), value=1.0)
