"""Who may execute a job, whatever order the facts of several workers come in."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.claims import Claims, Death, Free, HeldBy, Poisonous, Void, WasCancelled
from comfy_dist.messages import (
    AttemptFailedFact,
    CancelledFact,
    EndedFact,
    Fact,
    JoinedFact,
    ReleasedFact,
    RevokedFact,
    StartedFact,
    SurvivedFact,
)

WORKERS = "abc"
NOBODY: frozenset[str] = frozenset()

workers = st.sampled_from(WORKERS)
numbers = st.integers(0, 5)
jobs = st.sampled_from("jk")
of_attempts = st.sampled_from([StartedFact, AttemptFailedFact, ReleasedFact, SurvivedFact]).flatmap(
    lambda kind: st.builds(kind, job=jobs, worker=workers, attempt=numbers)
)
facts = st.one_of(
    of_attempts,
    of_attempts,
    st.builds(EndedFact, job=jobs),
    st.builds(CancelledFact, job=jobs, by=workers),
    st.builds(JoinedFact, reader=workers),
)
streams = st.lists(facts, max_size=25)


def folded(stream: Iterable[Fact]) -> Claims:
    claims = Claims()
    for fact in stream:
        claims.fold(fact)
    return claims


def started(worker: str, attempt: int, job: str = "j") -> StartedFact:
    return StartedFact(job=job, worker=worker, attempt=attempt)


def failed(worker: str, attempt: int, reason: str = "exited with code 3") -> AttemptFailedFact:
    return AttemptFailedFact(job="j", worker=worker, attempt=attempt, reason=reason)


def released(worker: str, attempt: int) -> ReleasedFact:
    return ReleasedFact(job="j", worker=worker, attempt=attempt)


def survived(worker: str, attempt: int) -> SurvivedFact:
    return SurvivedFact(job="j", worker=worker, attempt=attempt)


def verdict(stream: Iterable[Fact], gone: Iterable[str] = (), max_attempts: int = 3) -> object:
    return folded(stream).verdict("j", gone=frozenset(gone), max_attempts=max_attempts)


# Whatever comes


@given(streams)
def test_an_attempt_has_at_most_one_holder(stream: list[Fact]) -> None:
    claims = folded(stream)
    for job in "jk":
        holders = [(w, n) for w in WORKERS for n in range(1, 7) if claims.holds(job, w, n)]
        assert len(holders) <= 1
        assert all(number == claims.attempts(job) for _, number in holders)


@given(streams)
def test_the_first_claim_of_a_number_wins_for_good(stream: list[Fact]) -> None:
    claims, won = Claims(), dict[tuple[str, int], str]()
    for fact in stream:
        before = claims.attempts(fact.job) if isinstance(fact, StartedFact) else 0
        claims.fold(fact)
        if isinstance(fact, StartedFact) and claims.attempts(fact.job) > before:
            assert (fact.job, fact.attempt) not in won
            won[fact.job, fact.attempt] = fact.worker
    for (job, number), worker in won.items():
        if not claims.has_ended(job) and number == claims.attempts(job):
            assert claims.holds(job, worker, number)


@given(streams, streams)
def test_an_ended_job_stays_void(before: list[Fact], after: list[Fact]) -> None:
    claims = folded([*before, EndedFact(job="j"), *after])
    assert claims.verdict("j", gone=frozenset(WORKERS), max_attempts=1) == Void()
    assert claims.has_ended("j")
    assert not any(claims.holds("j", worker, number) for worker in WORKERS for number in range(1, 7))


@given(streams, st.sets(jobs), facts.filter(lambda fact: isinstance(fact, StartedFact)))
def test_a_claim_that_tells_of_ends_is_those_ends_and_then_the_claim(
    stream: list[Fact], ended: set[str], claim: StartedFact
) -> None:
    told = folded([*stream, claim.model_copy(update={"ended": tuple(ended)})])
    apart = folded([*stream, *(EndedFact(job=job) for job in ended), claim])
    for job in "jk":
        assert told.verdict(job, gone=NOBODY, max_attempts=3) == apart.verdict(job, gone=NOBODY, max_attempts=3)


@given(streams, streams)
def test_a_cancelled_job_never_starts(before: list[Fact], after: list[Fact]) -> None:
    found = verdict([*before, CancelledFact(job="j", by="x"), *after], gone=WORKERS)
    assert isinstance(found, (WasCancelled, Void))


@given(st.lists(st.one_of(of_attempts, st.builds(CancelledFact, job=jobs)), max_size=20))
def test_of_two_jobs_neither_touches_the_other(stream: list[Fact]) -> None:
    alone = [fact for fact in stream if fact.job == "j"]  # type: ignore[union-attr]
    assert verdict(stream) == verdict(alone)


@given(streams, facts)
def test_a_fact_that_comes_twice_counts_once(stream: list[Fact], fact: Fact) -> None:
    once, twice = folded([*stream, fact]), folded([*stream, fact, fact])
    for gone in (NOBODY, frozenset("a"), frozenset(WORKERS)):
        assert once.verdict("j", gone=gone, max_attempts=3) == twice.verdict("j", gone=gone, max_attempts=3)


@given(streams, st.integers(1, 4))
def test_a_free_attempt_is_the_next_and_its_claim_takes_it(stream: list[Fact], max_attempts: int) -> None:
    claims = folded(stream)
    found = claims.verdict("j", gone=NOBODY, max_attempts=max_attempts)
    if isinstance(found, Free):
        assert found.attempt == claims.attempts("j") + 1
        claims.fold(started("new", found.attempt))
        claims.fold(started("rival", found.attempt))
        assert claims.holds("j", "new", found.attempt)
        assert not claims.holds("j", "rival", found.attempt)
        assert claims.verdict("j", gone=NOBODY, max_attempts=max_attempts) == HeldBy("new")


endings = st.lists(st.sampled_from(["failed", "lost", "released", "survived then lost"]), max_size=8)


@given(endings, st.integers(1, 4))
def test_only_attempts_that_ended_by_a_death_count(attempts: list[str], max_attempts: int) -> None:
    """Each attempt by a worker of its own, claimed when the one before is over."""
    claims, dead, gone = Claims(), list[str](), set[str]()
    for number, ending in enumerate(attempts, 1):
        found = claims.verdict("j", gone=frozenset(gone), max_attempts=max_attempts)
        if len(dead) >= max_attempts:
            assert isinstance(found, Poisonous)
            assert [death.worker for death in found.deaths] == dead
            return
        assert found == Free(number)
        worker = f"w{number}"
        claims.fold(started(worker, number))
        assert claims.verdict("j", gone=frozenset(gone), max_attempts=max_attempts) == HeldBy(worker)
        match ending:
            case "failed":
                claims.fold(failed(worker, number))
                dead.append(worker)
            case "lost":
                gone.add(worker)
                dead.append(worker)
            case "released":
                claims.fold(released(worker, number))
            case _:
                claims.fold(survived(worker, number))
                gone.add(worker)


# One by one


@pytest.mark.parametrize(
    ("stream", "gone", "expected"),
    [
        ([], "", Free(1)),
        ([started("a", 1)], "", HeldBy("a")),
        ([started("a", 1), started("b", 1)], "", HeldBy("a")),
        ([started("a", 2)], "", HeldBy("a")),
        ([started("a", 2), started("b", 1)], "a", Free(3)),
        ([started("a", 1)], "a", Free(2)),
        ([started("a", 1)], "b", HeldBy("a")),
        ([started("a", 1), failed("a", 1)], "", Free(2)),
        ([started("a", 1), failed("b", 1)], "", HeldBy("a")),
        ([started("a", 1), released("a", 1)], "", Free(2)),
        ([started("a", 1), started("b", 2), survived("a", 1)], "", HeldBy("b")),
        ([started("a", 1), CancelledFact(job="j", by="f")], "", WasCancelled("f", started=True)),
        ([CancelledFact(job="j", by="f")], "", WasCancelled("f", started=False)),
        ([CancelledFact(job="j", by="f"), CancelledFact(job="j", by="g")], "", WasCancelled("f", started=False)),
        ([EndedFact(job="j"), started("a", 1)], "", Void()),
        ([EndedFact(job="other")], "", Free(1)),
    ],
)
def test_the_verdict(stream: list[Fact], gone: str, expected: object) -> None:
    assert verdict(stream, gone) == expected


def test_after_the_last_attempt_the_job_is_poisonous_and_names_its_workers_and_their_deaths() -> None:
    stream: list[Fact] = [
        started("a", 1),
        failed("a", 1, "ran out"),
        started("b", 2),
        failed("b", 2),
        started("c", 3),
    ]
    assert verdict(stream[:4]) == Free(3)
    a, b, c = Death("a", "ran out"), Death("b", "exited with code 3"), Death("c", "ended without a word")
    assert verdict(stream) == HeldBy("c")
    assert verdict(stream, gone="c") == Poisonous((a, b, c))
    assert verdict(stream[:2], max_attempts=1) == Poisonous((a,))
    assert str(b) == "b exited with code 3"


def test_a_number_that_is_left_out_is_nobodys_and_counts_against_nobody() -> None:
    stream = [started("b", 2), started("a", 1)]
    assert folded(stream).holder("j") == ("b", 2)
    assert not folded(stream).holds("j", "a", 1)
    assert verdict(stream) == HeldBy("b")
    assert verdict(stream, gone="b", max_attempts=2) == Free(3)
    assert verdict(stream, gone="b", max_attempts=1) == Poisonous((Death("b"),))


def test_a_worker_that_was_only_cut_off_counts_against_nobody() -> None:
    stream = [started("a", 1), started("b", 2), failed("b", 2)]
    assert isinstance(verdict(stream, max_attempts=2), Poisonous)
    assert verdict([*stream, survived("a", 1)], gone="a", max_attempts=2) == Free(3)


def test_what_a_survivor_executes_is_not_begun_again_when_its_rival_dies() -> None:
    stream = [started("a", 1), started("b", 2), survived("a", 1)]
    assert verdict(stream) == HeldBy("b")
    assert verdict([*stream, failed("b", 2)]) == HeldBy("a")
    assert verdict(stream, gone="b") == HeldBy("a")
    assert verdict(stream, gone="ab") == Free(3)


def test_a_survivor_whose_engine_dies_counts() -> None:
    stream: list[Fact] = [started("a", 1), survived("a", 1), failed("a", 1)]
    assert isinstance(verdict(stream, max_attempts=1), Poisonous)


@pytest.mark.parametrize("end", [failed("a", 1), released("a", 1)])
def test_news_of_survival_that_come_late_do_not_open_an_attempt_again(end: Fact) -> None:
    assert verdict([started("a", 1), end, survived("a", 1)]) == Free(2)


def test_a_reader_has_caught_up_when_its_own_fact_comes_back() -> None:
    claims = folded([JoinedFact(reader="other"), started("a", 1)])
    assert not claims.has_joined("me")
    claims.fold(JoinedFact(reader="me"))
    assert claims.has_joined("me")


def test_ended_jobs_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comfy_dist.claims.REMEMBERED", 3)
    claims = folded(EndedFact(job=job) for job in "vwxyz")
    assert [job for job in "vwxyz" if claims.has_ended(job)] == ["x", "y", "z"]


def test_a_submission_that_was_refused_is_told_from_another_of_the_same_job() -> None:
    claims = folded([RevokedFact(job="j", submitted_at=5)])
    assert claims.is_revoked("j", 5)
    assert not claims.is_revoked("j", 6)
    assert claims.verdict("j", gone=NOBODY, max_attempts=3) == Free(1)
