"""The pool of a region's chunks: nothing is left out or done twice, and unequal ranks end together."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.calls.shares import MAX_CHUNKS, Chunk, Pool

WHO = ("", "a", "b", "c")
sizes = st.integers(0, 300)
worlds = st.integers(1, 80)


def _in_order(pool: Pool) -> list[int]:
    """The items of the results joined in the order of their chunks."""
    return [item for chunk in pool.chunks for item in range(chunk.start, chunk.stop)]


@given(sizes, worlds, st.booleans(), st.integers(1, 8), st.data())
def test_every_item_is_done_exactly_once_and_in_order_whatever_happens(
    items: int, world: int, ranked: bool, chunks_per_worker: int, data: st.DataObject
) -> None:
    pool = Pool(items, world, ranked, chunks_per_worker)
    holds: dict[int, str] = {}
    #: What each was given since it came, in order.
    had: dict[str, list[int]] = {who: [] for who in WHO}
    results: set[int] = set()
    now = 0.0
    for step in data.draw(st.lists(st.sampled_from(["take", "done", "lost", "undone", "stranger"]), max_size=60)):
        now += data.draw(st.sampled_from([0.0, 1e-7, 0.05, 30.0]))
        who = data.draw(st.sampled_from(WHO))
        mine = [index for index, holder in holds.items() if holder == who]
        free_in = data.draw(st.sampled_from([0.0, 0.02, 5.0]))
        if step == "take" and (chunk := pool.take(who, now, free_in=free_in)) is not None:
            assert chunk.index not in (*holds, *results), "one chunk, one holder"
            assert chunk.index not in had[who]
            holds[chunk.index] = who
            had[who].append(chunk.index)
        elif step == "done" and mine:
            index = data.draw(st.sampled_from(mine))
            assert pool.done(index, who, now)
            assert not pool.done(index, who, now), "a duplicate"
            results.add(index)
            # What it took before that it will not hand in.
            for each in mine[: mine.index(index) + 1]:
                assert each in results or not pool.done(each, who, now)
                del holds[each]
        elif step == "lost":
            again = sorted(results)[:1]
            pool.lost(who, done_as_well=again)
            results -= set(again)
            assert not any(pool.done(index, who, now) for index in mine), "late"
            holds = {index: holder for index, holder in holds.items() if holder != who}
            had[who] = []
        elif step == "undone" and results:
            pool.undone(min(results))
            results.remove(min(results))
        elif step == "stranger" and holds:
            index, holder = min(holds.items())
            other = WHO[(WHO.index(holder) + 1) % len(WHO)]
            assert not pool.done(index, other, now)
        for name in WHO:
            taken = [index for index, holder in holds.items() if holder == name]
            assert [chunk.index for chunk in pool.outstanding(name)] == taken
            at = data.draw(st.sampled_from([None, *had[name]]))
            begun = had[name][: had[name].index(at) + 1] if at is not None else []
            waiting = pool.not_begun(name, at)
            assert (waiting and waiting.index) == next((each for each in taken if each not in begun), None)
    # Everybody else leaves; the parent does the rest.
    for who in WHO:
        pool.lost(who)
    while (chunk := pool.take("", now)) is not None:
        assert not pool.finished
        assert pool.done(chunk.index, "", now)
    assert pool.finished
    assert pool.take("", now) is None
    assert _in_order(pool) == list(range(items))
    assert [chunk.index for chunk in pool.chunks] == list(range(len(pool.chunks)))
    assert len(pool.chunks) <= MAX_CHUNKS
    if not ranked:
        assert len(pool.chunks) <= max(1, world * chunks_per_worker)


@given(st.integers(1, 300), st.integers(1, MAX_CHUNKS))
def test_ranked_chunks_are_the_shares_of_tensor_split(items: int, world: int) -> None:
    pool = Pool(items, world, ranked=True)
    taken = [pool.take(WHO[n % 3], float(n)) for n in range(world)]
    shares = torch.tensor_split(torch.arange(items), world)
    assert pool.take("", 99.0) is None
    assert [list(range(chunk.start, chunk.stop)) for chunk in taken if chunk] == [list(share) for share in shares]
    assert [(chunk.rank, chunk.world) for chunk in taken if chunk] == [(rank, world) for rank in range(world)]


@pytest.mark.parametrize("ranked", [False, True])
def test_no_items_are_one_empty_chunk_for_the_parent(ranked: bool) -> None:
    pool = Pool(0, 8, ranked)
    assert pool.take("a", 0.0) is None
    chunk = pool.take("", 0.0)
    assert chunk is not None
    assert (chunk.start, chunk.stop, chunk.world) == (0, 0, 1)
    pool.lost("")
    assert pool.take("a", 0.0) is None, "nor when it came back"
    assert pool.take("", 0.0) == chunk
    assert not pool.finished
    assert pool.done(0, "", 1.0)
    assert pool.finished


def test_what_was_lost_is_handed_out_first() -> None:
    pool = Pool(40, 4, ranked=False)
    first, second = pool.take("a", 0.0), pool.take("b", 0.0)
    pool.lost("b")
    pool.lost("a")
    assert (pool.take("c", 1.0), pool.take("", 1.0)) == (first, second)


def test_a_slow_rank_works_on_when_there_is_no_other() -> None:
    pool = Pool(6, 3, ranked=False)
    chunk = pool.take("slow", 0.0)
    done = 0
    while chunk is not None:
        done += chunk.items
        pool.done(chunk.index, "slow", 1000.0 * done)
        chunk = pool.take("slow", 1000.0 * done)
    assert done == 6


@dataclass(frozen=True)
class Course:
    """How a simulated region went."""

    seconds: float
    #: Items and chunks of each worker.
    items: list[int]
    chunks: list[int]
    #: Who was refused while something was left.
    refused: set[int]


def _simulate(
    items: int,
    paces: Sequence[float],
    overhead: float,
    late: float = 0.0,
    noise: float = 0.0,
    world: int = 0,
    before: Sequence[float] = (),
) -> Course:
    """Workers of so many seconds per item, the parent first, and so many per chunk; all but it come `late`.
    `before`: what they needed for an item the last time."""
    chance = random.Random(1)
    usual = fmean(1 / pace for pace in before[1:]) if before else None
    pool = Pool(items, world or len(paces), ranked=False, usual=usual)
    done, chunks, end = [0] * len(paces), [0] * len(paces), 0.0
    refused = set()
    waits = False
    events: list[tuple[float, int, int]] = [(late if n else 0.0, n, -1) for n in range(len(paces))]
    while events:
        now, n, index = heapq.heappop(events)
        if waits and n:
            # The parent asks whenever something has changed.
            waits = False
            heapq.heappush(events, (now, 0, -1))
        who = f"call {n}" if n else ""
        if index >= 0:
            assert pool.done(index, who, now)
            end = now
        if (chunk := pool.take(who, now, before=1 / before[n] if before else None)) is not None:
            work = sum(paces[n] * (1 + noise * chance.uniform(-1, 1)) for _ in range(chunk.items))
            heapq.heappush(events, (now + overhead + work, n, chunk.index))
            done[n] += chunk.items
            chunks[n] += 1
        elif pool.chunks[-1].stop < items:
            refused.add(n)
            waits |= n == 0
    assert pool.finished
    return Course(end, done, chunks, refused)


def _ideal(items: int, paces: Sequence[float]) -> float:
    return items / sum(1 / pace for pace in paces)


EQUAL = [0.05] * 8
ONE_SLOW = [0.05] * 7 + [0.2]


@pytest.mark.parametrize(
    ("paces", "overhead", "least"),
    [
        (EQUAL, 0.003, 0.965),
        (EQUAL, 0.005, 0.95),
        (ONE_SLOW, 0.003, 0.955),
        (ONE_SLOW, 0.005, 0.935),
        ([0.2] + [0.05] * 7, 0.005, 0.935),  # the parent is the slow one
        ([0.05, 0.05, 0.02, 0.1, 0.1, 0.03, 0.03, 0.05], 0.004, 0.86),
    ],
)
def test_unequal_workers_end_together(paces: Sequence[float], overhead: float, least: float) -> None:
    """64 items at 8 workers: of the ideal for their speeds, with what each chunk costs besides."""
    assert _ideal(64, paces) / _simulate(64, paces, overhead).seconds >= least


@pytest.mark.parametrize(("paces", "least"), [(EQUAL, 0.965), (ONE_SLOW, 0.95), ([0.2] + [0.05] * 7, 0.95)])
@pytest.mark.parametrize("times", [1.0, 2.0, 0.5])
def test_who_is_known_is_given_what_it_can_do_at_once(paces: Sequence[float], least: float, times: float) -> None:
    """Also where everybody is slower, or quicker, than the last time."""
    course = _simulate(64, [pace * times for pace in paces], 0.004 * times, before=paces)
    assert _ideal(64, paces) * times / course.seconds >= least
    assert sum(course.chunks) <= 24
    assert max(course.chunks) <= 4


@pytest.mark.parametrize("slower", [2.0, 4.0])
def test_who_is_slower_than_it_was_keeps_others_waiting_once(slower: float) -> None:
    paces = [0.05] * 7 + [0.05 * slower]
    course = _simulate(640, paces, 0.004, before=[0.05] * 8)
    assert course.seconds <= 640 / 8 * 0.05 * slower
    known = _simulate(640, paces, 0.004, before=paces)
    assert _ideal(640, paces) / known.seconds >= 0.965


@pytest.mark.parametrize("speed", [1e-5, 1.0, 1e3])
def test_nobody_is_refused_for_what_was_before(speed: float) -> None:
    """What a region waits for may be that all of them work on it at once."""
    pool = Pool(5, 5, ranked=False, usual=500.0)
    assert pool.take("", 0.0, before=1e3) is not None
    for number in range(4):
        assert pool.take(f"call {number}", 0.01, before=speed if number == 2 else 1e3) is not None


@pytest.mark.parametrize("items", [5, 6, 9])
def test_who_has_yet_to_come_finds_something(items: int) -> None:
    pool = Pool(items, 5, ranked=False, usual=2.0)
    assert pool.take("", 0.0, before=2.0) is not None
    for number in range(3):
        assert pool.take(f"call {number}", 0.01, before=2.0) is not None
    for number in range(3):
        pool.take(f"call {number}", 0.02, free_in=0.02, before=2.0)
    assert pool.take("call 3", 0.03, before=2.0) is not None


@given(st.integers(1, 300), st.integers(2, 12), st.booleans(), st.data())
def test_what_is_kept_is_done_once_whoever_it_is_for(
    items: int, world: int, ranked: bool, data: st.DataObject
) -> None:
    least = data.draw(st.sampled_from([None, 0.1, 20.0]))
    pool = Pool(items, world, ranked, usual=20.0 if least else None, least=least)
    first = pool.take("", 0.0)
    kept = [
        chunk
        for _ in range(data.draw(st.integers(0, world - 1)))
        if (chunk := pool.keep(0.0, little=data.draw(st.booleans()))) is not None
    ]
    done = []
    for number, chunk in enumerate(kept):
        who = f"call {number}"
        pool.owned(chunk.index, data.draw(st.sampled_from([who, None])))
        fate = data.draw(st.sampled_from(["done", "not begun", "late", "never"]))
        if pool.outstanding(who) and fate == "done":
            assert pool.done(chunk.index, who, 1.0)
            done.append(chunk.index)
        elif pool.outstanding(who) and fate == "not begun":
            assert pool.not_begun(who, None) == chunk
            assert pool.not_begun(who, chunk.index) is None
        elif pool.outstanding(who) and fate == "late":
            pool.lost(who)
            assert not pool.done(chunk.index, who, 1.0)
            pool.begun(chunk.index, who, 1.0)
            assert pool.done(chunk.index, who, 2.0)
            done.append(chunk.index)
        pool.lost(who)
    while first is not None:
        assert first.index not in done
        assert pool.done(first.index, "", 3.0)
        done.append(first.index)
        first = pool.take("", 3.0)
    assert pool.finished
    assert sorted(done) == list(range(len(pool.chunks)))
    assert _in_order(pool) == list(range(items))


@pytest.mark.parametrize(
    ("least", "little", "most"), [(20.0, False, 7), (20.0, True, 1), (5.0, False, 1), (None, False, 1)]
)
def test_whoever_comes_gets_what_the_slowest_would(least: float | None, little: bool, most: int) -> None:
    """More than an item only where all are known."""
    pool = Pool(64, 8, ranked=False, usual=20.0, least=least)
    assert pool.take("", 0.0, before=20.0) is not None
    kept = [pool.keep(0.0, little=little) for _ in range(7)]
    assert max(chunk.items for chunk in kept if chunk is not None) == most
    assert None not in kept


def test_who_has_begun_what_another_has_by_now_does_it_in_vain() -> None:
    pool = Pool(24, 3, ranked=True)
    chunk = pool.keep(0.0)
    assert chunk is not None
    pool.owned(chunk.index, "a")
    pool.lost("a")
    assert pool.take("b", 1.0) == chunk
    pool.begun(chunk.index, "a", 2.0)
    assert not pool.outstanding("a")
    pool.lost("b")
    assert pool.take("a", 3.0) != chunk, "it has done that"
    assert not pool.done(chunk.index, "a", 4.0)
    assert pool.take("", 5.0) == chunk


@pytest.mark.parametrize(("items", "noise"), [(1000, 0.3), (10_000, 0.3), (640, 0.1)])
def test_many_short_items_are_as_well_shared(items: int, noise: float) -> None:
    course = _simulate(items, [0.01] * 7 + [0.04], 0.004, noise=noise)
    assert _ideal(items, [0.01] * 7 + [0.04]) / course.seconds >= 0.93
    assert sum(course.chunks) <= 32


def test_nobody_waits_for_ranks_that_never_come() -> None:
    course = _simulate(64, [0.05, 0.05], 0.004, world=8)
    assert course.seconds <= 1.1 * 32 * 0.05
    assert _simulate(64, [0.05], 0.004, world=8).seconds <= 1.02 * 64 * 0.05


def test_a_slow_rank_gets_nothing_that_others_will_have_done_before_it_could() -> None:
    course = _simulate(64, [0.05] * 7 + [0.3], 0.004)
    assert course.refused == {7}
    assert course.items[7] == 1


def test_a_slow_parent_leaves_the_end_to_ranks_that_are_at_work() -> None:
    course = _simulate(64, [0.3] + [0.05] * 7, 0.004)
    assert course.refused == {0}
    assert course.items[0] == 1


def test_who_asks_shortly_before_it_is_done_gets_what_it_would_get_then() -> None:
    def after_first(free_in: float) -> Chunk:
        pool = Pool(64, 2, ranked=False)
        for who in ("", "a"):
            chunk = pool.take(who, 0.0)
            assert chunk is not None
            assert pool.done(chunk.index, who, 0.1 * chunk.items)
        assert pool.take("", 5.0)
        own = pool.take("a", 5.0)
        assert own is not None
        done_at = 5.0 + 0.1 * own.items
        if free_in:
            ahead = pool.take("a", done_at - free_in, free_in=free_in)
            assert pool.outstanding("a") == (own, ahead)
            assert pool.done(own.index, "a", done_at)
        else:
            assert pool.done(own.index, "a", done_at)
            ahead = pool.take("a", done_at)
        assert ahead is not None
        assert pool.done(ahead.index, "a", done_at + 1)
        assert pool._seen["a"].speeds[-1] == pytest.approx(ahead.items), "it began when it was done with the other"
        return ahead

    assert after_first(0.02) == after_first(0.0)


def test_who_is_told_late_of_a_chunk_that_is_done_takes_its_rank_for_no_quicker() -> None:
    pool = Pool(400, 2, ranked=False, chunks_per_worker=20)
    first = pool.take("a", 0.0)
    assert first is not None
    assert pool.done(first.index, "a", 0.1 * first.items)
    taken_at = 0.1 * first.items
    at = pool.take("a", taken_at)
    assert at is not None
    ahead = pool.take("a", taken_at, free_in=0.1 * at.items)
    assert ahead is not None
    told_at = taken_at + 0.1 * (at.items + ahead.items)
    assert pool.done(at.index, "a", told_at, 0.1 * at.items)
    assert pool.done(ahead.index, "a", told_at + 1e-3, 0.1 * ahead.items)
    assert pool._seen["a"].speeds == pytest.approx([10.0] * 3)


def test_what_a_rank_has_done_it_is_not_given_again() -> None:
    """Where its result could not be had: a prompt executes each chunk once."""
    pool = Pool(40, 2, ranked=False)
    first = pool.take("a", 0.0)
    assert first is not None
    assert pool.done(first.index, "a", 1.0)
    pool.undone(first.index)
    assert pool.take("a", 1.0) != first
    assert pool.take("", 1.0) == first


def test_nobody_gets_a_second_part_where_each_is_to_have_one() -> None:
    pool = Pool(8, 4, ranked=True)
    assert pool.take("a", 0.0)
    assert pool.take("a", 1.0, free_in=0.02) is None
    assert pool.left


def test_the_parent_gets_what_is_left_when_nobody_is_at_work_or_in_time() -> None:
    pool = Pool(40, 2, ranked=False, chunks_per_worker=20)
    for who, took in (("", 4.0), ("quick", 0.1)):
        chunk = pool.take(who, 0.0)
        assert chunk is not None
        assert pool.done(chunk.index, who, took * chunk.items)
    at_work = pool.take("quick", 7.95)
    assert at_work is not None
    assert at_work.stop < 40
    assert pool.take("", 8.0) is None, "the other one will have done it all within four seconds"
    assert pool.take("", 20.0) is not None, "the other one is late"
    pool.lost("quick")
    assert pool.take("", 20.1) == at_work


@given(
    st.integers(2, 12),
    st.integers(0, 30),
    st.integers(1, 8),
    st.lists(st.floats(0.001, 5.0), min_size=12, max_size=12),
)
def test_whoever_comes_while_nobody_is_ready_gets_something(
    world: int, more: int, chunks_per_worker: int, waits: list[float]
) -> None:
    """As long as there is an item for each, whenever they come."""
    pool = Pool(world + more, world, ranked=False, chunks_per_worker=chunks_per_worker)
    now = 0.0
    for n in range(world):
        assert pool.take(f"call {n}" if n else "", now) is not None
        now += waits[n]
