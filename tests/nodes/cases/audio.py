"""Audio: its parts, channels, loudness, and two together at other rates."""

from __future__ import annotations

from typing import Any

from tests.nodes.making import Case, case, noise


def sound(channels: int, samples: int, rate: int, seed: int = 0) -> dict[str, Any]:
    return {"waveform": noise(1, channels, samples, seed=seed, low=-1.0), "sample_rate": rate}


MONO, STEREO = sound(1, 90, 100), sound(2, 120, 100, seed=1)
PAIRS = (
    ("alike", STEREO, sound(2, 120, 100, seed=2)),
    ("mono", MONO, STEREO),
    ("shorter", STEREO, sound(1, 40, 100, seed=2)),
    ("slower", STEREO, sound(2, 77, 63, seed=2)),
    ("faster", sound(1, 99, 80), sound(2, 150, 120, seed=2)),
    ("usual-rates", sound(2, 300, 11025), sound(2, 300, 16000, seed=2)),
)

CASES: list[Case] = [
    *(
        case(
            "EmptyAudio",
            f"{duration}-{channels}",
            exact=True,
            duration=duration,
            sample_rate=30,
            channels=channels,
        )
        for duration, channels in ((1.0, 2), (0.05, 1), (0.0, 2))
    ),
    *(
        case(
            "TrimAudioDuration",
            f"{start}-{duration}",
            exact=True,
            audio=STEREO,
            start_index=start,
            duration=duration,
        )
        for start, duration in ((0.0, 60.0), (0.255, 0.5), (-0.3, 0.1), (-9.0, 0.2), (5.0, 1.0), (0.5, 0.0))
    ),
    case("SplitAudioChannels", "stereo", exact=True, audio=STEREO),
    case("SplitAudioChannels", "mono", audio=MONO),
    *(
        case("AudioConcat", f"{label}-{direction}", audio1=first, audio2=second, direction=direction)
        for label, first, second in PAIRS
        for direction in ("after", "before")
    ),
    *(
        case("AudioMerge", f"{label}-{method}", audio1=first, audio2=second, merge_method=method)
        for label, first, second in PAIRS
        for method in ("add", "mean", "subtract", "multiply")
    ),
    *(case("AudioAdjustVolume", str(volume), audio=STEREO, volume=volume) for volume in (0, 6, -100, 7)),
]
