"""Laws of noise, its levels, and of audio."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.nodes.core.audio import AudioAdjustVolume, AudioConcat, AudioMerge, TrimAudioDuration, resampled
from comfy_dist.nodes.core.inputs import UnusableInput
from comfy_dist.nodes.core.noise import DisableNoise, RandomNoise
from comfy_dist.nodes.core.schedules import (
    ExponentialScheduler,
    KarrasScheduler,
    LaplaceScheduler,
    LTXVScheduler,
    PolyexponentialScheduler,
    VPScheduler,
)
from comfy_dist.nodes.core.sigmas import (
    ExtendIntermediateSigmas,
    FlipSigmas,
    SetFirstSigma,
    SplitSigmas,
    SplitSigmasDenoise,
)
from tests.nodes.drawing import laws

STEPS = st.integers(2, 40)


@laws
@given(STEPS, st.floats(1.0, 100.0), st.floats(0.01, 0.9), st.floats(1.0, 9.0))
def test_schedules_fall_from_the_highest_to_zero(steps: int, highest: float, lowest: float, rho: float) -> None:
    for (sigmas,) in (
        KarrasScheduler().get_sigmas(steps, highest, lowest, rho),
        ExponentialScheduler().get_sigmas(steps, highest, lowest),
        PolyexponentialScheduler().get_sigmas(steps, highest, lowest, rho),
    ):
        assert len(sigmas) == steps + 1
        assert sigmas[0] == pytest.approx(highest, rel=1e-4)
        assert sigmas[-2] == pytest.approx(lowest, abs=1e-3)
        assert sigmas[-1] == 0
        assert (sigmas.diff() <= 1e-5).all()
    (laplace,) = LaplaceScheduler().get_sigmas(steps, highest, lowest, 0.0, 0.5)
    assert len(laplace) == steps
    assert lowest * 0.999 <= laplace[-1] <= laplace[0] <= highest * 1.001
    assert (laplace.diff() <= 0).all()
    assert (VPScheduler().get_sigmas(steps, 19.9, 0.1, 0.001)[0].diff() < 0).all()


@laws
@given(STEPS, st.floats(0.01, 0.9), st.integers(1, 40))
def test_stretched_schedules_end_at_the_terminal(steps: int, terminal: float, side: int) -> None:
    latent = {"samples": torch.zeros(1, 1, 2, side, side)}
    (sigmas,) = LTXVScheduler().execute(steps, 2.05, 0.95, True, terminal, latent)
    assert sigmas[0] == pytest.approx(1)
    assert sigmas[-2] == pytest.approx(terminal, abs=1e-4)
    assert sigmas[-1] == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda: KarrasScheduler().get_sigmas(3, 14.0, 0.1, 0.0),
        lambda: ExponentialScheduler().get_sigmas(3, 14.0, 0.0),
        lambda: PolyexponentialScheduler().get_sigmas(3, 0.0, 0.1, 1.0),
    ],
)
def test_levels_that_no_schedule_has_are_named(call: Any) -> None:
    with pytest.raises(UnusableInput, match="above 0"):
        call()


@laws
@given(STEPS, st.integers(0, 50), st.floats(0, 1))
def test_both_parts_of_sigmas_meet(steps: int, at: int, denoise: float) -> None:
    (sigmas,) = KarrasScheduler().get_sigmas(steps, 14.0, 0.1, 7.0)
    high, low = SplitSigmas().get_sigmas(sigmas, at)
    if at <= steps:
        assert torch.equal(torch.cat((high, low[1:])), sigmas)
    else:
        assert torch.equal(high, sigmas)
        assert not len(low)
    high, low = SplitSigmasDenoise().get_sigmas(sigmas, denoise)
    assert len(low) == round(steps * denoise) + 1
    if len(low) > 1:
        assert torch.equal(torch.cat((high, low[1:])), sigmas)


@laws
@given(STEPS)
def test_flipping_twice_changes_at_most_the_ends(steps: int) -> None:
    (sigmas,) = KarrasScheduler().get_sigmas(steps, 14.0, 0.1, 7.0)
    before = sigmas.clone()
    (twice,) = FlipSigmas().get_sigmas(FlipSigmas().get_sigmas(sigmas)[0])
    assert torch.equal(twice[:-1], sigmas[:-1])
    assert 0 < twice[-1] < 0.001
    assert torch.equal(
        SetFirstSigma().set_first_sigma(sigmas, 14.0)[0], SetFirstSigma().set_first_sigma(before, 14.0)[0]
    )
    assert torch.equal(sigmas, before)


@laws
@given(STEPS, st.integers(1, 9), st.sampled_from(("linear", "cosine", "sine")))
def test_more_steps_lie_between_those_there_are(steps: int, extra: int, spacing: str) -> None:
    (sigmas,) = KarrasScheduler().get_sigmas(steps, 14.0, 0.1, 7.0)
    (extended,) = ExtendIntermediateSigmas().extend(sigmas, extra, -1.0, 0.0, spacing)
    assert len(extended) == steps * extra + 1
    assert torch.equal(extended[::extra], sigmas)
    assert (extended.diff() < 0).all()


@laws
@given(st.integers(1, 300), st.sampled_from((8, 50, 100, 147)), st.sampled_from((8, 60, 100, 160)))
def test_resampling_keeps_the_duration_and_the_sound(samples: int, rate: int, new_rate: int) -> None:
    waveform = torch.ones(2, 1, samples)
    changed = resampled(waveform, rate, new_rate)
    assert changed.shape == (2, 1, math.ceil(samples * new_rate / rate))
    assert changed.dtype == waveform.dtype
    # Far from the ends a constant stays one.
    margin = math.ceil(8 * max(1, new_rate / rate))
    middle = changed[..., margin:-margin]
    assert torch.allclose(middle, torch.ones_like(middle), atol=0.02)


@laws
@given(st.integers(1, 50), st.integers(1, 50), st.sampled_from(("add", "subtract", "multiply", "mean")))
def test_merged_audio_is_as_long_as_the_first_and_never_too_loud(first: int, second: int, method: str) -> None:
    one = {"waveform": torch.rand(1, 2, first) * 2 - 1, "sample_rate": 10}
    two = {"waveform": torch.rand(1, 2, second) * 2 - 1, "sample_rate": 10}
    (merged,) = AudioMerge().merge(one, two, method)
    assert merged["waveform"].shape == one["waveform"].shape
    assert merged["waveform"].abs().max() <= 1
    (both,) = AudioConcat().concat(one, two, "after")
    assert both["waveform"].shape[-1] == first + second
    (trimmed,) = TrimAudioDuration().trim(both, first / 10, 99.0)
    assert torch.equal(trimmed["waveform"], two["waveform"])
    (softer,) = AudioAdjustVolume().adjust_volume(AudioAdjustVolume().adjust_volume(one, -6)[0], 6)
    assert torch.allclose(softer["waveform"], one["waveform"], atol=1e-6)


@laws
@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_a_latent_gets_the_noise_of_its_place_in_any_batch(seed: int, indices: list[int]) -> None:
    (noise,) = RandomNoise().get_noise(seed)
    samples = torch.zeros(len(indices), 4, 3, 2)
    chosen = noise.generate_noise({"samples": samples, "batch_index": indices})
    for place, index in enumerate(indices):
        alone = noise.generate_noise({"samples": samples[:1], "batch_index": [index]})
        assert torch.equal(chosen[place], alone[0])
    whole = noise.generate_noise({"samples": samples})
    # As ComfyUI draws it.
    assert torch.equal(whole, torch.randn(samples.shape, generator=torch.manual_seed(seed)))
    assert noise.seed == seed
    (none,) = DisableNoise().get_noise()
    assert not none.generate_noise({"samples": samples + 1}).any()
