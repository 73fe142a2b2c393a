"""AUDIO: {"waveform": float32 [B, channels, samples] in -1…1, "sample_rate": samples in a second}."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch

from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, number, whole

Audio: TypeAlias = dict[str, Any]

#: Seconds.
_FOR_EVER = 0xFFFFFFFFFFFFFFFF
#: Zero crossings of the filter on each side, and the share of the lower rate's band that it lets through.
_CROSSINGS, _BAND = 6, 0.99


def _audio(waveform: torch.Tensor, sample_rate: int) -> Audio:
    return {"waveform": waveform, "sample_rate": sample_rate}


class EmptyAudio:
    """Silence."""

    CATEGORY = "audio"
    RETURN_TYPES = ("AUDIO",)
    FUNCTION = "create_empty_audio"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        duration = {"default": 60.0, "min": 0.0, "max": _FOR_EVER, "step": 0.01, "tooltip": "In seconds."}
        return {
            "required": {
                "duration": ("FLOAT", duration),
                "sample_rate": ("INT", {"default": 44100, "tooltip": "Samples in a second."}),
                "channels": whole(2, 1, 2, tooltip="1 is mono, 2 is stereo."),
            }
        }

    def create_empty_audio(self, duration: float, sample_rate: int, channels: int) -> tuple[Audio]:
        """A batch of one."""
        return (_audio(torch.zeros(1, channels, round(duration * sample_rate)), sample_rate),)


class TrimAudioDuration:
    CATEGORY = "audio"
    DESCRIPTION = "A part of the audio."
    RETURN_TYPES = ("AUDIO",)
    FUNCTION = "trim"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        start = number(0.0, -_FOR_EVER, _FOR_EVER)
        start[1]["tooltip"] = "In seconds; below 0 it counts from the end."
        duration = {"default": 60.0, "min": 0.0, "step": 0.01, "tooltip": "In seconds."}
        return {"required": {"audio": ("AUDIO",), "start_index": start, "duration": ("FLOAT", duration)}}

    def trim(self, audio: Audio, start_index: float, duration: float) -> tuple[Audio]:
        """Both cut off at the audio's ends. Raises UnusableInput where nothing is left."""
        waveform: torch.Tensor = audio["waveform"]
        rate, length = audio["sample_rate"], waveform.shape[-1]
        start = round(start_index * rate) + (length if start_index < 0 else 0)
        start = max(0, min(start, length - 1))
        end = min(start + round(duration * rate), length)
        if start >= end:
            raise UnusableInput(
                f"Nothing is left of {length / rate:g} s of audio from {start_index:g} s on for {duration:g} s; "
                "give a longer duration, or audio that is not empty."
            )
        return (_audio(waveform[..., start:end], rate),)


class SplitAudioChannels:
    CATEGORY = "audio"
    DESCRIPTION = "The left and the right channel, each on its own."
    RETURN_TYPES = ("AUDIO", "AUDIO")
    RETURN_NAMES = ("left", "right")
    FUNCTION = "separate"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"audio": ("AUDIO",)}}

    def separate(self, audio: Audio) -> tuple[Audio, Audio]:
        """Raises UnusableInput for anything but stereo."""
        waveform: torch.Tensor = audio["waveform"]
        if waveform.shape[1] != 2:
            raise UnusableInput(f"Only audio of 2 channels has a left and a right; this has {waveform.shape[1]}.")
        left, right = (_audio(waveform[..., at : at + 1, :], audio["sample_rate"]) for at in (0, 1))
        return left, right


class AudioConcat:
    """Both one after the other, in stereo, at the higher of their rates."""

    CATEGORY = "audio"
    DESCRIPTION = "Plays audio2 after audio1, or before it."
    RETURN_TYPES = ("AUDIO",)
    FUNCTION = "concat"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        direction = {"default": "after", "tooltip": "Where audio2 comes."}
        return {
            "required": {"audio1": ("AUDIO",), "audio2": ("AUDIO",), "direction": (["after", "before"], direction)}
        }

    def concat(self, audio1: Audio, audio2: Audio, direction: str) -> tuple[Audio]:
        first, second, rate = _at_one_rate(audio1, audio2)
        batch = max(len(first), len(second))
        stereo = (each.repeat(1, 2, 1) if each.shape[1] == 1 else each for each in (first, second))
        parts = [each.expand(batch, -1, -1) for each in stereo]
        return (_audio(torch.cat(parts if direction == "after" else parts[::-1], dim=2), rate),)


class AudioMerge:
    """Both at once, at the higher of their rates, as long as the first; made softer where it is too loud."""

    CATEGORY = "audio"
    DESCRIPTION = "Lays one audio over the other."
    RETURN_TYPES = ("AUDIO",)
    FUNCTION = "merge"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        method = (["add", "mean", "subtract", "multiply"], {"tooltip": "What is done with the samples of both."})
        return {"required": {"audio1": ("AUDIO",), "audio2": ("AUDIO",), "merge_method": method}}

    def merge(self, audio1: Audio, audio2: Audio, merge_method: str) -> tuple[Audio]:
        first, second, rate = _at_one_rate(audio1, audio2)
        # A negative padding cuts.
        second = torch.nn.functional.pad(second, (0, first.shape[-1] - second.shape[-1]))
        if merge_method == "add":
            waveform = first + second
        elif merge_method == "mean":
            waveform = (first + second) / 2
        elif merge_method == "subtract":
            waveform = first - second
        else:
            waveform = first * second
        if waveform.numel():
            waveform = waveform / waveform.abs().max().clamp(min=1.0)
        return (_audio(waveform, rate),)


class AudioAdjustVolume:
    """Louder or softer by decibels: 6 doubles, -6 halves."""

    CATEGORY = "audio"
    RETURN_TYPES = ("AUDIO",)
    FUNCTION = "adjust_volume"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        volume = {"default": 1.0, "min": -100, "max": 100, "tooltip": "In decibels: 6 doubles, -6 halves."}
        return {"required": {"audio": ("AUDIO",), "volume": ("INT", volume)}}

    def adjust_volume(self, audio: Audio, volume: int) -> tuple[Audio]:
        return (_audio(audio["waveform"] * 10 ** (volume / 20), audio["sample_rate"]) if volume else audio,)


def _at_one_rate(audio1: Audio, audio2: Audio) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Both waveforms at the higher of their sample rates, and that. Raises UnusableInput for unequal batches."""
    batches = len(audio1["waveform"]), len(audio2["waveform"])
    if batches[0] != batches[1] and 1 not in batches:
        raise UnusableInput(
            f"audio1 is a batch of {batches[0]} and audio2 one of {batches[1]}; equal batches go together, or one "
            "audio with a batch."
        )
    rate = max(audio1["sample_rate"], audio2["sample_rate"])
    first, second = (resampled(each["waveform"], each["sample_rate"], rate) for each in (audio1, audio2))
    return first, second, rate


def resampled(waveform: torch.Tensor, rate: int, new_rate: int) -> torch.Tensor:
    """[..., samples] at `rate` to [..., ceil(samples * new_rate / rate)], filtered by a sinc under a Hann window.

    Numbers are those of torchaudio's default (https://ccrma.stanford.edu/~jos/resample/).
    """
    if rate == new_rate or not waveform.numel():
        return waveform
    divisor = math.gcd(rate, new_rate)
    step, phases = rate // divisor, new_rate // divisor
    band = min(step, phases) * _BAND
    reach = math.ceil(_CROSSINGS * step / band)
    # Between two samples of the old rate lie `phases` of the new one, with a filter each.
    at = torch.arange(-reach, reach + step, dtype=waveform.dtype) / step
    offset = torch.arange(phases, dtype=waveform.dtype)[:, None] / phases
    distance = ((at - offset) * band).clamp(-_CROSSINGS, _CROSSINGS)
    window = torch.cos(distance * math.pi / _CROSSINGS / 2) ** 2
    filters = torch.sinc(distance) * window * (band / step)
    length = waveform.shape[-1]
    padded = torch.nn.functional.pad(waveform.reshape(-1, 1, length), (reach, reach + step))
    interleaved = torch.nn.functional.conv1d(padded, filters[:, None].to(waveform.device), stride=step)
    flat = interleaved.transpose(1, 2).flatten(1)[:, : math.ceil(length * phases / step)]
    return flat.reshape(*waveform.shape[:-1], -1)


NODE_CLASS_MAPPINGS = {
    cls.__name__: cls
    for cls in (EmptyAudio, TrimAudioDuration, SplitAudioChannels, AudioConcat, AudioMerge, AudioAdjustVolume)
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EmptyAudio": "Empty Audio",
    "TrimAudioDuration": "Trim Audio Duration",
    "SplitAudioChannels": "Split Audio Channels",
    "AudioConcat": "Audio Concat",
    "AudioMerge": "Audio Merge",
    "AudioAdjustVolume": "Audio Adjust Volume",
}
