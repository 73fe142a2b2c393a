"""What the shares of a workflow have made, put together in their order: images as a batch, sounds along time.

A share's part is {"worker": the name of who made it, "images": [IMAGE, …], "audio": [AUDIO, …]}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch

from comfy_dist.tensors.batches import UnusableBatch, join, shape_of

Part: TypeAlias = Mapping[str, Any]
Audio: TypeAlias = dict[str, Any]

#: What stands for no sound: one sample of stereo silence.
_RATE = 44_100


def images_of(parts: Sequence[Part]) -> torch.Tensor:
    """All images, [B, H, W, C]. Raises UnusableBatch, naming the workers whose are not of one size."""
    found = [(part["worker"], image) for part in parts for image in part["images"]]
    for worker, image in found:
        if not isinstance(image, torch.Tensor) or image.ndim != 4:
            raise UnusableBatch(f"A collector takes images; what it got of {_who(worker)} is {shape_of(image)}.")
    # Where there are none, their size says nothing.
    filled = [(worker, image) for worker, image in found if image.shape[0]]
    for worker, image in filled[1:]:
        first, (height, width, channels) = filled[0], image.shape[1:]
        if image.shape[1:] != first[1].shape[1:]:
            one = "{1} x {0}, {2} channels".format(*first[1].shape[1:])
            raise UnusableBatch(
                f"Images of one batch have one size. Those of {_who(first[0])} are {one}, and those of "
                f"{_who(worker)} {width} x {height}, {channels} channels. Resize them, or give them as many "
                "channels, before they are collected."
            )
    batch: torch.Tensor = join([image for _, image in filled or found])
    return batch


def audio_of(parts: Sequence[Part]) -> Audio:
    """All sounds along time, where one is mono and another has more channels in all of these; silence for none.

    Raises UnusableBatch, naming the workers whose do not go together.
    """
    found = [(part["worker"], sound) for part in parts for sound in part["audio"]]
    for worker, sound in found:
        if not _is_audio(sound):
            raise UnusableBatch(f"A collector takes audio; what it got of {_who(worker)} is {shape_of(sound)}.")
    if not found:
        return {"waveform": torch.zeros(1, 2, 1), "sample_rate": _RATE}
    (first_worker, first), *more = found
    widest = max((sound for _, sound in found), key=lambda sound: int(sound["waveform"].shape[1]))
    batch, channels = first["waveform"].shape[0], widest["waveform"].shape[1]
    for worker, sound in more:
        if sound["sample_rate"] != first["sample_rate"]:
            raise UnusableBatch(
                f"One sound has one sample rate. That of {_who(first_worker)} is {first['sample_rate']}, and that "
                f"of {_who(worker)} {sound['sample_rate']}."
            )
        if sound["waveform"].shape[0] != batch:
            raise UnusableBatch(
                f"Sounds are collected along time, so there must be as many of each. Of {_who(first_worker)} "
                f"there are {batch}, and of {_who(worker)} {sound['waveform'].shape[0]}."
            )
    for worker, sound in found:
        if sound["waveform"].shape[1] not in (1, channels):
            wide = next(each for each, other in found if other is widest)
            raise UnusableBatch(
                f"One sound has as many channels throughout. That of {_who(wide)} has {channels}, and that of "
                f"{_who(worker)} {sound['waveform'].shape[1]}; only mono is repeated."
            )
    device = first["waveform"].device
    waves = [sound["waveform"].to(device).expand(-1, channels, -1) for _, sound in found]
    return {**first, "waveform": waves[0] if len(waves) == 1 else torch.cat(waves, dim=-1)}


def _is_audio(value: Any) -> bool:
    wave = value.get("waveform") if isinstance(value, Mapping) else None
    return isinstance(wave, torch.Tensor) and wave.ndim == 3 and isinstance(value.get("sample_rate"), int)


def _who(worker: str) -> str:
    return f"worker {worker}" if worker else "this worker"
