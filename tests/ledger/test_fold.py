"""What the fold of a job's events promises, whatever comes in whatever order."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.ledger.fold import JobEvent, JobRow, JobState, fold
from comfy_dist.messages import (
    AttemptFailed,
    Cancelled,
    Failed,
    Finished,
    Released,
    Resubmitted,
    Revoked,
    Started,
    Submitted,
    Urgency,
)

ENDS = {Finished: JobState.FINISHED, Failed: JobState.FAILED, Cancelled: JobState.CANCELLED}

times = st.integers(1, 10**6)
workers = st.sampled_from("abc")
numbers = st.integers(1, 4)
submitted = st.builds(
    Submitted,
    job_id=st.just("j"),
    at=times,
    prompt=st.just({}),
    number=st.integers(-9, 9),
    urgency=st.sampled_from(Urgency),
    client_id=st.sampled_from([None, "x", "y"]),
)
started = st.builds(Started, job_id=st.just("j"), at=times, worker=workers, attempt=numbers)
undone = st.one_of(
    st.builds(AttemptFailed, job_id=st.just("j"), at=times, worker=workers, attempt=numbers, reason=st.just("")),
    st.builds(Released, job_id=st.just("j"), at=times, worker=workers, attempt=numbers),
)
ended = st.one_of(
    st.builds(Finished, job_id=st.just("j"), at=times),
    st.builds(Failed, job_id=st.just("j"), at=times, error=st.just({})),
    st.builds(Cancelled, job_id=st.just("j"), at=times),
)
histories = st.lists(st.one_of(submitted, started, undone, ended), max_size=12)


def folded(events: Iterable[JobEvent], row: JobRow | None = None) -> JobRow | None:
    return reduce(fold, events, row)


@given(histories)
def test_the_first_end_counts_and_nothing_after_it(events: list[JobEvent]) -> None:
    row = folded(events)
    first = next((event for event in events if type(event) in ENDS), None)
    if first is None:
        assert row is None or (not row.state.ended and row.ended_at == 0)
    else:
        assert row is not None
        assert (row.state, row.ended_at) == (ENDS[type(first)], first.at)


@given(histories)
def test_the_first_submission_counts(events: list[JobEvent]) -> None:
    row = folded(events)
    first = next((event for event in events if isinstance(event, Submitted)), None)
    if first is not None:
        assert row is not None
        assert (row.number, row.urgency, row.client_id, row.created_at) == (
            first.number,
            first.urgency.rank,
            first.client_id,
            first.at,
        )


@given(histories, st.one_of(submitted, started, undone, ended))
def test_an_event_that_comes_twice_counts_once(events: list[JobEvent], event: JobEvent) -> None:
    once = folded([*events, event])
    assert fold(once, event) == once


@given(st.lists(st.one_of(started, undone, ended), max_size=8), submitted, st.integers(0, 8))
def test_it_does_not_matter_when_the_submission_comes(
    events: list[JobEvent], submission: Submitted, place: int
) -> None:
    assert folded([*events[:place], submission, *events[place:]]) == folded([submission, *events])


@given(st.lists(st.tuples(workers, st.booleans()), max_size=6))
def test_a_job_waits_again_after_each_attempt_that_was_given_back_or_failed(
    attempts: list[tuple[str, bool]],
) -> None:
    row = folded([Submitted(job_id="j", prompt={})])
    failed = []
    for number, (worker, released) in enumerate(attempts, 1):
        row = fold(row, Started(job_id="j", worker=worker, attempt=number))
        assert (row.state, row.worker) == (JobState.RUNNING, worker)
        if released:
            row = fold(row, Released(job_id="j", worker=worker, attempt=number))
        else:
            row = fold(row, AttemptFailed(job_id="j", worker=worker, attempt=number, reason=""))
            failed.append(worker)
        assert row.state is JobState.PENDING
        assert row.workers == tuple(failed)


revoked = st.builds(Revoked, job_id=st.just("j"), at=times, submitted_at=times)
resubmitted = st.builds(Resubmitted, job_id=st.just("j"), at=times)
anything = st.lists(st.one_of(submitted, started, undone, ended, revoked, resubmitted), max_size=12)


@given(anything, st.data())
def test_what_comes_twice_and_in_another_order_ends_as_one_of_its_ends(
    events: list[JobEvent], data: st.DataObject
) -> None:
    told = data.draw(st.permutations([*events, *events]))
    row = folded(told)
    ends = {ENDS[type(event)] for event in events if type(event) in ENDS}
    if ends:
        assert row is not None
        assert row.state in ends
        assert row.ended_at in {event.at for event in events if type(event) in ENDS}
        assert not row.void
    else:
        assert row is None or not row.state.ended


@given(submitted, resubmitted, st.data())
def test_what_was_given_again_stands_whenever_the_first_submission_is_revoked(
    first: Submitted, again: Resubmitted, data: st.DataObject
) -> None:
    refusal = Revoked(job_id="j", submitted_at=first.at)
    rest = data.draw(st.permutations([again, refusal]))
    row = folded([first, *rest])
    assert row is not None
    if again.at != first.at:
        assert not row.void
        assert row.created_at == again.at


@given(submitted)
def test_what_was_refused_is_as_if_it_had_never_been_until_it_is_submitted_anew(event: Submitted) -> None:
    row = folded([event, Revoked(job_id="j", submitted_at=event.at)])
    assert row is not None
    assert row.void
    assert fold(row, Started(job_id="j", worker="a", attempt=1)).state is JobState.RUNNING
    anew = fold(row, event.model_copy(update={"at": event.at + 1}))
    assert (anew.void, anew.created_at, anew.ended_at) == (False, event.at + 1, 0)


@given(submitted, started, times)
def test_what_has_begun_is_not_revoked(event: Submitted, beginning: Started, at: int) -> None:
    row = folded([event, beginning])
    assert fold(row, Revoked(job_id="j", at=at, submitted_at=event.at)) == row


def test_a_worker_that_was_cut_off_cannot_give_back_anothers_attempt() -> None:
    row = folded([Started(job_id="j", worker="a", attempt=1), Started(job_id="j", worker="b", attempt=2)])
    assert fold(row, Released(job_id="j", worker="a", attempt=1)) == row
    assert fold(row, AttemptFailed(job_id="j", worker="a", attempt=1, reason="")) == row


def test_the_client_of_a_job_whose_end_overtakes_its_submission_is_known() -> None:
    started = fold(None, Started(job_id="a", worker="w", attempt=1, client_id="c"))
    ended = fold(started, Finished(job_id="a"))
    assert (ended.state, ended.client_id) == (JobState.FINISHED, "c")
