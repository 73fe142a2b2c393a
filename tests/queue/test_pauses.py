"""Which workers are paused, whatever was said of it and however much the stream has forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.messages import PausedFact, ResumedFact
from comfy_dist.pauses import Pauses

ALL = {}
WHO = [ALL, {"worker": "a1"}, {"worker": "b1"}, {"name": "a"}, {"name": "b"}, {"worker": "a1", "name": "a"}]
#: id and name
WORKERS = [("a1", "a"), ("a2", "a"), ("b1", "b")]

said = st.builds(lambda kind, whom: kind(**whom), st.sampled_from([PausedFact, ResumedFact]), st.sampled_from(WHO))
streams = st.lists(said, max_size=12)


def folded(stream: Iterable[PausedFact | ResumedFact]) -> Pauses:
    pauses = Pauses()
    for fact in stream:
        pauses.fold(fact)
    return pauses


def held(pauses: Pauses) -> list[bool]:
    return [pauses.hold(*worker) for worker in WORKERS]


def again(fact: PausedFact) -> PausedFact:
    return fact.model_copy(update={"again": True})


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ([], [False, False, False]),
        ([PausedFact()], [True, True, True]),
        ([PausedFact(), ResumedFact()], [False, False, False]),
        ([PausedFact(worker="a1")], [True, False, False]),
        ([PausedFact(name="a")], [True, True, False]),
        ([PausedFact(name="a"), ResumedFact(worker="a1", name="a")], [False, False, False]),
        ([PausedFact(name="a"), ResumedFact(worker="a1")], [True, True, False]),
        # What was said of one is not unsaid by what is said of all.
        ([PausedFact(name="b"), PausedFact(), ResumedFact()], [False, False, True]),
        ([PausedFact(), ResumedFact(name="a")], [True, True, True]),
        # Said again by someone who did not know yet that it was over.
        ([PausedFact(), ResumedFact(), again(PausedFact())], [False, False, False]),
        # All before was forgotten.
        ([again(PausedFact(name="b"))], [False, False, True]),
    ],
)
def test_who_is_paused(stream: list[PausedFact | ResumedFact], expected: list[bool]) -> None:
    assert held(folded(stream)) == expected


@given(streams)
def test_what_stands_is_all_that_need_be_said(stream: list[PausedFact | ResumedFact]) -> None:
    pauses = folded(stream)
    assert held(folded(map(again, pauses.standing))) == held(pauses)


@given(streams, streams, st.data())
def test_a_pause_that_is_said_again_outlives_what_the_stream_forgets(
    forgotten: list[PausedFact | ResumedFact], kept: list[PausedFact | ResumedFact], data: st.DataObject
) -> None:
    """What stood when the stream forgot all before is said again at some moment after, late as it may be."""
    late = [again(fact) for fact in folded(forgotten).standing]
    stream: list[PausedFact | ResumedFact] = list(kept)
    for fact in late:
        stream.insert(data.draw(st.integers(0, len(stream))), fact)
    assert held(folded(stream)) == held(folded([*forgotten, *kept]))


@given(streams, st.data())
def test_saying_a_pause_again_changes_nothing(
    stream: Sequence[PausedFact | ResumedFact], data: st.DataObject
) -> None:
    """By whoever knew it to stand at any moment before."""
    known = folded(stream[: data.draw(st.integers(0, len(stream)))]).standing
    assert held(folded([*stream, *map(again, known)])) == held(folded(stream))
