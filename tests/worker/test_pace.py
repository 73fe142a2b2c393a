"""The figure that says how much a worker gets done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.worker.pace import SLOT, WINDOW, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 1234.5

    def __call__(self) -> float:
        return self.now


def test_a_steady_worker_shows_its_pace_and_an_idle_one_comes_to_nothing() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.per_hour == 0
    for _ in range(200):
        clock.now += 30
        pace.count()
    assert pace.per_hour == pytest.approx(120, abs=120 * SLOT / WINDOW)
    clock.now += WINDOW / 2
    assert pace.per_hour == pytest.approx(60, abs=120 * SLOT / WINDOW)
    clock.now += WINDOW
    assert pace.per_hour == 0


def test_one_job_of_a_worker_that_has_just_started_is_no_record() -> None:
    clock = Clock()
    pace = Pace(clock)
    clock.now += 0.1
    pace.count()
    assert pace.per_hour == 60


@given(st.lists(st.floats(0, 2 * WINDOW), max_size=50))
def test_it_is_what_was_finished_in_the_window(pauses: list[float]) -> None:
    clock = Clock()
    pace = Pace(clock)
    clock.now += WINDOW
    ends = []
    for pause in pauses:
        clock.now += pause
        pace.count()
        ends.append(clock.now)
    counted = pace.per_hour * WINDOW / 3600
    within = sum(end > clock.now - WINDOW + SLOT for end in ends)
    assert within <= round(counted) <= sum(end > clock.now - WINDOW - SLOT for end in ends)
