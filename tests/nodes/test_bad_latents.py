"""Latents, noise levels, audio and text that a node cannot use: a sentence that says what would do."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from comfy_dist.nodes import core
from comfy_dist.nodes.core.inputs import UnusableInput
from comfy_dist.nodes.core.latent_operations import LatentOperationSharpen
from tests.nodes.drawing import call


def latent(*shape: int, **more: Any) -> dict[str, Any]:
    return {"samples": torch.rand(shape), **more}


def sound(batch: int, samples: int = 9) -> dict[str, Any]:
    return {"waveform": torch.zeros(batch, 1, samples), "sample_rate": 9}


ONE, TWO, OTHER = latent(1, 4, 8, 9), latent(2, 4, 8, 9), latent(1, 16, 8, 9)
KINDS = "4 channels and the other 16: they are of different kinds of models"


@pytest.mark.parametrize(
    ("node", "inputs", "sentence"),
    [
        ("LatentAdd", {"samples1": ONE, "samples2": OTHER}, KINDS),
        ("LatentSubtract", {"samples1": ONE, "samples2": OTHER}, KINDS),
        ("LatentInterpolate", {"samples1": ONE, "samples2": OTHER, "ratio": 0.5}, KINDS),
        ("LatentInterpolate", {"samples1": TWO, "samples2": ONE, "ratio": 0.5}, "takes one latent, .* has 2"),
        ("LatentBatch", {"samples1": ONE, "samples2": OTHER}, KINDS),
        ("LatentBlend", {"samples1": ONE, "samples2": OTHER, "blend_factor": 0.5}, KINDS),
        (
            "LatentBlend",
            {"samples1": TWO, "samples2": latent(3, 4, 8, 9), "blend_factor": 0.5},
            "has 2 latents .* 3",
        ),
        ("LatentAdd", {"samples1": ONE, "samples2": latent(1, 4, 2, 8, 9)}, "4 dimensions and the other 5"),
        ("LatentComposite", {"samples_to": ONE, "samples_from": OTHER, "x": 0, "y": 0, "feather": 0}, KINDS),
        (
            "LatentComposite",
            {"samples_to": latent(3, 4, 8, 8), "samples_from": TWO, "x": 0, "y": 0, "feather": 8},
            "samples_from has 2 latents and samples_to 3",
        ),
        (
            "LatentCompositeMasked",
            {"destination": ONE, "source": OTHER, "x": 0, "y": 0, "resize_source": True},
            KINDS,
        ),
        (
            "LatentConcat",
            {"samples1": ONE, "samples2": latent(1, 4, 3, 9), "dim": "-x"},
            "1 x 4 x 8 x 9 and 1 x 4 x 3 x 9 cannot be put together along -x",
        ),
        (
            "LatentUpscaleBy",
            {"samples": ONE, "upscale_method": "bislerp", "scale_by": 0.01},
            "Nothing is left of a latent of 9 x 8 scaled by 0.01",
        ),
        (
            "LatentUpscaleBy",
            {"samples": ONE, "upscale_method": "area", "scale_by": float("nan")},
            "scaled by nan",
        ),
        ("RebatchLatents", {"latents": [ONE, OTHER], "batch_size": [2]}, KINDS),
        ("RebatchLatents", {"latents": [ONE], "batch_size": [0]}, "at least one latent; batch_size is 0"),
        (
            "RebatchLatents",
            {"latents": [ONE, latent(1, 4, 8, 9, noise_mask=torch.rand(1, 1, 5, 6))], "batch_size": [2]},
            "neighbours have 72 x 64 and 6 x 5. Set masks as large as the pictures",
        ),
        (
            "LatentApplyOperation",
            {"samples": ONE, "operation": LatentOperationSharpen().execute(9, 1.0, 0.1)[0]},
            "radius of 9 needs latents of more than 9 on each side; this one has 9 x 8",
        ),
        ("SetFirstSigma", {"sigmas": torch.zeros(0), "sigma": 1.0}, "no sigmas"),
        ("SplitAudioChannels", {"audio": sound(1)}, "this has 1"),
        ("AudioConcat", {"audio1": sound(2), "audio2": sound(3), "direction": "after"}, "batch of 2 .* one of 3"),
        ("AudioMerge", {"audio1": sound(3), "audio2": sound(2), "merge_method": "add"}, "batch of 3 .* one of 2"),
        (
            "TrimAudioDuration",
            {"audio": sound(1), "start_index": 0.0, "duration": 0.0},
            "Nothing is left of 1 s of audio",
        ),
    ],
)
def test_what_cannot_be_used_is_named(node: str, inputs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UnusableInput, match=sentence):
        call(core.NODE_CLASS_MAPPINGS[node], **inputs)


def test_audio_of_nothing_goes_with_any() -> None:
    nothing = {"waveform": torch.zeros(1, 1, 0), "sample_rate": 4}
    for given in ((nothing, sound(2)), (sound(2), nothing)):
        audio1, audio2 = given
        (joined,) = call(core.NODE_CLASS_MAPPINGS["AudioConcat"], audio1=audio1, audio2=audio2, direction="after")
        assert joined["waveform"].shape == (2, 2, 9)
        (merged,) = call(core.NODE_CLASS_MAPPINGS["AudioMerge"], audio1=audio1, audio2=audio2, merge_method="add")
        assert merged["waveform"].shape == (2, 1, audio1["waveform"].shape[-1])
        assert joined["sample_rate"] == merged["sample_rate"] == 9


def test_one_channel_goes_with_all() -> None:
    flat = latent(1, 1, 8, 9)
    for node in ("LatentAdd", "LatentSubtract"):
        (result,) = call(core.NODE_CLASS_MAPPINGS[node], samples1=ONE, samples2=flat)
        assert result["samples"].shape == ONE["samples"].shape


def test_no_numbers_come_through_as_none() -> None:
    """NaN spreads only where it stands."""
    samples = torch.rand(1, 4, 8, 8)
    samples[0, 0, 0, 0] = float("nan")
    broken = {"samples": samples}
    for node, inputs in (
        ("LatentFlip", {"samples": broken, "flip_method": "x-axis: vertically"}),
        ("LatentMultiply", {"samples": broken, "multiplier": 2.0}),
        ("LatentUpscaleBy", {"samples": broken, "upscale_method": "nearest-exact", "scale_by": 1.0}),
    ):
        (result,) = call(core.NODE_CLASS_MAPPINGS[node], **inputs)
        assert int(result["samples"].isnan().sum()) == 1


def test_a_value_that_cannot_be_shown_is_said_so() -> None:
    class Shy:
        def __str__(self) -> str:
            raise RuntimeError("no")

    shown = call(core.NODE_CLASS_MAPPINGS["PreviewAny"], source=Shy())
    assert shown == {"ui": {"text": ("source exists, but could not be serialized.",)}}
