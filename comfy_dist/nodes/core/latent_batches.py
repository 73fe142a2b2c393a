"""Taking batches of latents apart and putting them together.

`batch_index` says which noise each latent of a batch gets, so that one taken out is denoised as it was in it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, combo, whole
from comfy_dist.nodes.core.latent import SCALE, Latent, check_channels, fitted
from comfy_dist.nodes.core.resize import repeat_to_batch_size


class LatentFromBatch:
    CATEGORY = "latent/batch"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "frombatch"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "samples": ("LATENT",),
                "batch_index": whole(0, 0, 63),
                "length": whole(1, 1, 64),
            }
        }

    def frombatch(self, samples: Latent, batch_index: int, length: int) -> tuple[Latent]:
        """`length` latents from `batch_index` on, both cut off at the batch's end; a single mask is everyone's."""
        tensor: torch.Tensor = samples["samples"]
        size = tensor.shape[0]
        first = min(batch_index, size - 1)
        part = slice(first, min(first + length, size))
        result = {**samples, "samples": tensor[part].clone(), "batch_index": _indices(samples)[part]}
        mask: torch.Tensor | None = samples.get("noise_mask")
        if mask is not None and mask.shape[0] > 1:
            result["noise_mask"] = repeat_to_batch_size(mask, max(size, mask.shape[0]))[part].clone()
        return (result,)


class RepeatLatentBatch:
    CATEGORY = "latent/batch"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "repeat"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        amount = whole(1, 1, 64)
        return {"required": {"samples": ("LATENT",), "amount": amount}}

    def repeat(self, samples: Latent, amount: int) -> tuple[Latent]:
        """The batch `amount` times over; each repetition's batch_index goes on after the one before."""
        result = {**samples, "samples": _repeated(samples["samples"], amount)}
        mask: torch.Tensor | None = samples.get("noise_mask")
        if mask is not None and mask.shape[0] > 1:
            result["noise_mask"] = _repeated(mask, amount)
        if "batch_index" in samples:
            indices: list[int] = samples["batch_index"]
            span = max(indices) - min(indices) + 1
            result["batch_index"] = [index + turn * span for turn in range(amount) for index in indices]
        return (result,)


def _repeated(batch: torch.Tensor, amount: int) -> torch.Tensor:
    return batch.repeat(amount, *[1] * (batch.ndim - 1))


class LatentBatch:
    """Both batches as one; the second is resized to the first where their sizes differ."""

    CATEGORY = "latent/batch"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"samples1": ("LATENT", {}), "samples2": ("LATENT", {})}}

    def execute(self, samples1: Latent, samples2: Latent) -> tuple[Latent]:
        first, second = samples1["samples"], samples2["samples"]
        check_channels(first, second, joined=True)
        result = {**samples1, "samples": torch.cat((first, fitted(second, first)))}
        result["batch_index"] = [*_indices(samples1), *_indices(samples2)]
        return (result,)


def _indices(latent: Latent, offset: int = 0) -> list[int]:
    """Its batch_index; counted from `offset` on where it has none."""
    given: list[int] | None = latent.get("batch_index")
    return list(range(offset, offset + latent["samples"].shape[0])) if given is None else given


class LatentBatchSeedBehavior:
    """Whether every latent of the batch gets noise of its own, or all get that of the first."""

    CATEGORY = "latent/advanced"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        behaviour = combo("random", "fixed", default="fixed")
        return {"required": {"samples": ("LATENT", {}), "seed_behavior": behaviour}}

    def execute(self, samples: Latent, seed_behavior: str) -> tuple[Latent]:
        result = dict(samples)
        if seed_behavior == "random":
            result.pop("batch_index", None)
        elif seed_behavior == "fixed":
            result["batch_index"] = [_indices(samples)[0]] * samples["samples"].shape[0]
        return (result,)


class RebatchLatents:
    """Latents one behind the other in batches of batch_size, smaller where the size of the pictures changes."""

    CATEGORY = "latent/batch"
    INPUT_IS_LIST = True
    RETURN_TYPES = ("LATENT",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        batch_size = whole(1, 1, 4096)
        return {"required": {"latents": ("LATENT", {}), "batch_size": batch_size}}

    def execute(self, latents: list[Latent], batch_size: list[int]) -> tuple[list[Latent]]:
        """Each result has samples and batch_index, and a noise_mask where one of its latents is masked."""
        size = batch_size[0]
        if size < 1:
            raise UnusableInput(f"A batch has at least one latent; batch_size is {size}.")
        batches: list[Latent] = []
        #: Fewer than `size`, which the next one's fill up if it is as large.
        rest: Latent | None = None
        offset = 0
        for latent in latents:
            numbered = {**latent, "batch_index": _indices(latent, offset)}
            offset += len(numbered["batch_index"])
            if rest is not None and rest["samples"].shape[-2:] == latent["samples"].shape[-2:]:
                numbered = _joined(rest, numbered)
            elif rest is not None:
                batches.append(rest)
            *full, rest = _split(numbered, size)
            batches.extend(full)
            if len(rest["batch_index"]) == size:
                batches.append(rest)
                rest = None
        if rest is not None:
            batches.append(rest)
        return ([_without_full_mask(batch) for batch in batches],)


def _split(latent: Latent, size: int) -> Iterator[Latent]:
    """In parts of `size` and a smaller last one, without what nodes add of their own."""
    count = latent["samples"].shape[0]
    parts = {"samples": latent["samples"], "batch_index": latent["batch_index"]}
    if "noise_mask" in latent:
        parts["noise_mask"] = repeat_to_batch_size(latent["noise_mask"], count)
    for start in range(0, max(count, 1), size):
        yield {key: value[start : start + size] for key, value in parts.items()}


def _joined(first: Latent, second: Latent) -> Latent:
    """Raises UnusableInput where their channels or masks differ in size."""
    check_channels(first["samples"], second["samples"], joined=True)
    joined: Latent = {
        "samples": torch.cat((first["samples"], second["samples"])),
        "batch_index": [*first["batch_index"], *second["batch_index"]],
    }
    if "noise_mask" in first or "noise_mask" in second:
        masks = _mask(first), _mask(second)
        if masks[0].shape[1:] != masks[1].shape[1:]:
            sizes = " and ".join(f"{mask.shape[-1]} x {mask.shape[-2]}" for mask in masks)
            raise UnusableInput(
                f"Noise masks of one batch have one size; neighbours have {sizes}. "
                "Set masks as large as the pictures, or rebatch to 1."
            )
        joined["noise_mask"] = torch.cat(masks)
    return joined


def _mask(latent: Latent) -> torch.Tensor:
    """Its noise mask, one for each of its latents; ones in the picture's size where it has none."""
    samples: torch.Tensor = latent["samples"]
    mask: torch.Tensor | None = latent.get("noise_mask")
    if mask is None:
        return torch.ones(samples.shape[0], 1, samples.shape[2] * SCALE, samples.shape[3] * SCALE)
    return repeat_to_batch_size(mask, samples.shape[0])


def _without_full_mask(latent: Latent) -> Latent:
    """The latent, without a mask that masks nothing."""
    if "noise_mask" in latent and latent["noise_mask"].mean() == 1.0:
        return {key: value for key, value in latent.items() if key != "noise_mask"}
    return latent


class TrimVideoLatent:
    """Leaves the first frames out."""

    CATEGORY = "latent/video"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        trim_amount = whole(0, 0, 99999)
        return {"required": {"samples": ("LATENT", {}), "trim_amount": trim_amount}}

    def execute(self, samples: Latent, trim_amount: int) -> tuple[Latent]:
        """[B, C, T, H, W] to [B, C, T - trim_amount, H, W]."""
        return ({**samples, "samples": samples["samples"][:, :, trim_amount:]},)


NODE_CLASS_MAPPINGS = {
    cls.__name__: cls
    for cls in (
        LatentFromBatch,
        RepeatLatentBatch,
        LatentBatch,
        LatentBatchSeedBehavior,
        RebatchLatents,
        TrimVideoLatent,
    )
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "LatentFromBatch": "Latent From Batch",
    "RepeatLatentBatch": "Repeat Latent Batch",
    "RebatchLatents": "Rebatch Latents",
}
