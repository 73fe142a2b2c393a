"""Batches taken apart and put together again, as if they had never been apart.

A batch is an IMAGE [B, H, W, C], a MASK [B, H, W], a LATENT {"samples": [B, C, …], …}, or a list of any values.
A slice of a latent says which noise each of its items gets (`batch_index`), else every slice would draw that of
the first ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch

from comfy_dist.errors import ComfyDistError

Latent: TypeAlias = Mapping[str, Any]


class UnusableBatch(ComfyDistError):
    """A value that is no batch, or batches that cannot be one; the text has their shapes."""


def items_of(value: Any) -> int:
    """How many items a batch has; a tensor without a batch, as one mask [H, W], is one. Raises UnusableBatch."""
    if isinstance(value, torch.Tensor):
        return int(value.shape[0]) if value.ndim > 2 else 1
    if is_latent(value):
        return int(value["samples"].shape[0])
    if isinstance(value, (list, tuple)):
        return len(value)
    raise UnusableBatch(f"An image, a mask, a latent or a list can be divided; this is {shape_of(value)}.")


def cut(value: Any, start: int, stop: int) -> Any:
    """Items start…stop, tensors as views; all of them are the value itself. Raises UnusableBatch."""
    items = items_of(value)
    if not 0 <= start <= stop <= items:
        raise UnusableBatch(f"There are no items {start} to {stop} in {shape_of(value)}, which has {items}.")
    if (start, stop) == (0, items):
        return value
    if is_latent(value):
        return _cut_latent(value, start, stop)
    if isinstance(value, torch.Tensor) and value.ndim < 3:
        return value.new_empty(0, *value.shape)
    return value[start:stop]


def join(parts: Sequence[Any], like: Any = None) -> Any:
    """The parts in order as one batch. Raises UnusableBatch.

    `like` is the batch that was cut, if one was: what its slices were given besides is taken away again.
    """
    if not parts:
        raise UnusableBatch("There is nothing to join: a batch of no items has a shape too, so it takes one part.")
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, torch.Tensor) for part in parts):
        return _join_tensors(parts)
    if all(is_latent(part) for part in parts):
        return _join_latents(parts, like if is_latent(like) else None)
    if all(isinstance(part, (list, tuple)) for part in parts):
        return [item for part in parts for item in part]
    raise UnusableBatch(f"These cannot be joined to one batch: {_shapes_of(parts)}.")


def is_latent(value: Any) -> bool:
    """Whether it is a LATENT of any kind: pictures [B, C, H, W], videos [B, C, T, H, W], sounds [B, C, L]."""
    samples = value.get("samples") if isinstance(value, Mapping) else None
    return isinstance(samples, torch.Tensor) and samples.ndim > 2


def shape_of(value: Any) -> str:
    """What a value is, for a sentence."""
    if isinstance(value, torch.Tensor):
        return f"a tensor {list(value.shape)}"
    if is_latent(value):
        return f"a latent {list(value['samples'].shape)}"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    return f"a value of the type {type(value).__name__}"


def _shapes_of(parts: Sequence[Any]) -> str:
    return " and ".join(dict.fromkeys(shape_of(part) for part in parts))


def _cut_latent(latent: Latent, start: int, stop: int) -> dict[str, Any]:
    samples: torch.Tensor = latent["samples"]
    items = samples.shape[0]
    # A tensor of as many rows goes with the samples; what else a latent carries is everyone's.
    part = {key: value[start:stop] if _rows(value) == items else value for key, value in latent.items()}
    mask: torch.Tensor | None = latent.get("noise_mask")
    if mask is not None:
        everyones = mask.ndim < 3 or _of_frames(mask, samples) or mask.shape[0] == 1
        part["noise_mask"] = mask if everyones else _in_turn(mask, start, stop)
    positions: Sequence[int] | None = latent.get("batch_index")
    part["batch_index"] = list(range(start, stop)) if positions is None else positions[start:stop]
    return part


def _join_tensors(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    # Where there are no items, their size says nothing.
    filled = [part for part in parts if part.shape[:1] != (0,)] or parts[:1]
    if len(filled) > 1 and filled[0].ndim < 3:
        raise UnusableBatch(f"These are no batches: {_shapes_of(parts)}. Gather a list of them.")
    return _join_rows(filled)


def _join_rows(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The rows of all, in order. Raises UnusableBatch where they are of several sizes."""
    if len(parts) == 1:
        return parts[0]
    if len({part.shape[1:] for part in parts}) > 1:
        raise UnusableBatch(
            f"Items of one batch have one size; these are {_shapes_of(parts)}. Resize them, or gather a list."
        )
    return torch.cat([part.to(parts[0].device) for part in parts])


def _join_latents(parts: Sequence[Latent], like: Latent | None) -> dict[str, Any]:
    filled = [part for part in parts if items_of(part)] or parts[:1]
    counts = [items_of(part) for part in filled]
    whole: Latent = like or {}
    joined: dict[str, Any] = {"samples": _join_tensors([part["samples"] for part in filled])}
    for key in dict.fromkeys(key for part in filled for key in part if key not in ("samples", "batch_index")):
        if key == "noise_mask":
            joined[key] = _join_masks(filled, counts, whole.get(key))
            continue
        values = [part[key] for part in filled if key in part]
        in_rows = [_rows(value) for value in values] == counts
        joined[key] = _join_beside(values, counts, whole.get(key)) if in_rows else values[0]
    positions = _positions(filled)
    given_by_cut = like is not None and "batch_index" not in like and positions == list(range(sum(counts)))
    if positions is not None and not given_by_cut:
        joined["batch_index"] = positions
    return joined


def _positions(parts: Sequence[Latent]) -> list[int] | None:
    """Every item's batch_index, where a part has one; those of a part without are its places in the whole."""
    if all(part.get("batch_index") is None for part in parts):
        return None
    found: list[int] = []
    for part in parts:
        given: Sequence[int] | None = part.get("batch_index")
        found += range(len(found), len(found) + items_of(part)) if given is None else given
    return found


def _join_masks(parts: Sequence[Latent], counts: Sequence[int], whole: torch.Tensor | None) -> torch.Tensor:
    """One noise mask for all; a part without one has all of its picture denoised, as a mask of ones says."""
    given = [part.get("noise_mask") for part in parts]
    first: torch.Tensor = next(mask for mask in given if mask is not None)
    masks = [torch.ones_like(first) if mask is None else mask for mask in given]
    if all(_same(mask, first) for mask in masks) and (first.ndim < 3 or _of_frames(first, parts[0]["samples"])):
        return first
    if whole is not None:
        whole = _with_batch(whole, parts[0])
    return _join_beside([_with_batch(mask, part) for mask, part in zip(masks, parts, strict=True)], counts, whole)


def _join_beside(parts: Sequence[torch.Tensor], counts: Sequence[int], whole: Any) -> torch.Tensor:
    """A row for every item, or fewer where they mean the same: as `whole` had them, or one that is everyone's."""
    rows = _join_rows([_in_turn(part, 0, count) for part, count in zip(parts, counts, strict=True)])
    if isinstance(whole, torch.Tensor) and _same(_in_turn(whole, 0, sum(counts)), rows):
        return whole
    everyones = parts[0].shape[0] == 1 or [part.shape[0] for part in parts] != list(counts)
    return parts[0] if everyones and all(_same(part, parts[0]) for part in parts) else rows


def _in_turn(rows: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """Rows start…stop, from the first on again where there are fewer: how ComfyUI spreads masks over a batch."""
    count = rows.shape[0]
    if count >= stop or not count:
        return rows[start:stop]
    return rows[torch.arange(start, stop, device=rows.device) % count]


def _of_frames(mask: torch.Tensor, samples: torch.Tensor) -> bool:
    """Whether a mask's rows are the frames of a video [B, C, T, H, W] rather than items."""
    return samples.ndim == 5 and mask.ndim < 5


def _with_batch(mask: torch.Tensor, latent: Latent) -> torch.Tensor:
    """The mask with a row for each item, or one for all."""
    if _of_frames(mask, latent["samples"]):
        return mask.reshape(1, 1, -1, *mask.shape[-2:])
    return mask if mask.ndim > 2 else mask[None]


def _rows(value: Any) -> int | None:
    """The rows of a tensor; None for anything else."""
    return int(value.shape[0]) if isinstance(value, torch.Tensor) and value.ndim else None


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other.to(one.device))
