"""What a process remembers of how fast it and others were at regions of a kind."""

from __future__ import annotations

import pytest

from comfy_dist.calls import speeds
from comfy_dist.calls.speeds import Speeds

KIND, ANOTHER = ("KSampler", "VAEDecode"), ("KSampler",)


def test_each_kind_and_each_worker_has_its_own() -> None:
    known = Speeds()
    known.note(KIND, 2.0)
    known.note_other(KIND, "a", 4.0)
    known.note_other(KIND, "b", 1.0)
    known.note_other(KIND, "b", 2.0)
    assert known.of(KIND) == 2.0
    assert known.of_others(KIND) == 3.0
    assert known.least_of(KIND, ["a"]) == 4.0
    assert known.least_of(KIND, ["a", "b"]) == 2.0
    assert known.of(ANOTHER) is known.of_others(ANOTHER) is known.least_of(ANOTHER, ["a"]) is None


@pytest.mark.parametrize("workers", [["a", "new"], ["new"], []])
def test_of_whom_not_all_are_known_there_is_no_slowest(workers: list[str]) -> None:
    known = Speeds()
    known.note_other(KIND, "a", 4.0)
    assert known.least_of(KIND, workers) is None


@pytest.mark.parametrize("speed", [0.0, -1.0, 1e-300, 1e300, float("inf"), float("nan")])
def test_a_speed_that_makes_no_sense_is_not_remembered(speed: float) -> None:
    known = Speeds()
    known.note(KIND, speed)
    known.note_other(KIND, "a", speed)
    assert known.of(KIND) is known.of_others(KIND) is None


def test_the_latest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeds, "MOST", 2)
    known = Speeds()
    for number in range(3):
        known.note((str(number),), 1.0)
        known.note_other((str(number),), "a", 1.0)
    assert [known.of((str(number),)) for number in range(3)] == [None, 1.0, 1.0]
    assert [known.of_others((str(number),)) for number in range(3)] == [None, 1.0, 1.0]
    for number in range(3):
        known.note_other(KIND, str(number), 1.0)
    assert known.least_of(KIND, ["0"]) is None
    assert known.least_of(KIND, ["1", "2"]) == 1.0
