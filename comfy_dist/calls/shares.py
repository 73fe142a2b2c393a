"""Which items of a region are worked on by whom: a pool of chunks that ranks take as they become free. Pure.

A rank that is known to be slow gets little, and near the end nothing: guided self-scheduling (Polychronopoulos and
Kuck, 1987), weighted by measured speeds (weighted factoring: Hummel, Schmidt, Uma, Wein, 1996).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from statistics import fmean, median

#: Chunks of one region, however many ranks and items.
MAX_CHUNKS = 64
#: How much of its share a rank takes at once if it may come again, while its speed is not known and then. Of those
#: that were simulated (tests/calls/test_shares.py) these cost least.
_FIRST = 1 / 8
_PORTION = 3 / 4
#: And one whose speed was known before.
_KNOWN_PORTION = 9 / 10


@dataclass(frozen=True)
class Chunk:
    """Items `start` to `stop` (exclusive) of a region. `index` grows with `start`, from 0.

    In a ranked region `rank` and `world` are what nodes in it are told. Elsewhere nothing looks at them. The index
    of a share (share_pool.py) is its number.
    """

    index: int
    start: int
    stop: int
    rank: int
    world: int
    #: Of a share: by which names values are chosen for it.
    names: tuple[str, ...] = ()

    @property
    def items(self) -> int:
        return self.stop - self.start


@dataclass
class _Taker:
    """Somebody who takes chunks."""

    #: Index -> since when it has it, in the order in which it executes them.
    open: dict[int, float] = field(default_factory=dict)
    #: All that it was ever given, in that order: whatever became of it, it may be at it, or have done it.
    had: list[int] = field(default_factory=list)
    #: When it last was done with one.
    free: float = -math.inf
    #: Items per second of its last two chunks, the better: the first one may have loaded a model, so an average
    #: would mislead.
    speeds: list[float] = field(default_factory=list)
    #: Seconds that its last chunk took besides: to be handed out and in.
    overhead: float = 0.0
    #: Items per second that it did of such a region before.
    before: float | None = None

    @property
    def speed(self) -> float | None:
        return max(self.speeds[-2:], default=None)

    @property
    def since(self) -> float:
        """Since when it is at the first of what it has, which is not nothing."""
        return max(self.free, next(iter(self.open.values())))


class Pool:
    """The chunks of items for `world` ranks. Who takes is "" (the parent) or a call's id; times are in seconds.

    Ranked: exactly `world` chunks, the shares of `torch.tensor_split`. Otherwise at most `world` times
    `chunks_per_worker`, cut off the front as they are taken. Never over 64. No items: one, empty, the parent's.
    """

    def __init__(
        self,
        items: int,
        world: int,
        ranked: bool,
        chunks_per_worker: int = 4,
        usual: float | None = None,
        least: float | None = None,
    ) -> None:
        """`usual`: items per second that each of the others did of such a region before, on average; `least`: the
        slowest of all that may come, None: not all have done such."""
        self.items = items
        self.world = max(1, min(world, MAX_CHUNKS) if ranked else world)
        self._chunks_per_worker = chunks_per_worker
        self.ranked = ranked
        self._usual = usual
        self._least = least
        self._chunks: list[Chunk] = []
        self._back: set[int] = set()
        self._done: set[int] = set()
        #: Those that are expected to come again.
        self._takers: dict[str, _Taker] = {}
        #: All that ever came, as they were when they last asked.
        self._seen: dict[str, _Taker] = {}
        self._begun: float | None = None
        #: Chunks that are kept for who has yet to come -> what they are taken as.
        self._kept: dict[int, str] = {}

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """Those cut so far, in order; all of them once it is finished."""
        return tuple(self._chunks)

    @property
    def uncut(self) -> bool:
        """Some items were never handed out."""
        return not self._cut_all

    def joined(self, ranks: int) -> None:
        """So many more are called to it, which is not ranked."""
        self.world += ranks

    @property
    def finished(self) -> bool:
        """Every item is done."""
        return self._cut_all and len(self._done) == len(self._chunks)

    @property
    def left(self) -> bool:
        """Something is not taken by anybody, though it may not be for everybody."""
        return bool(self._back) or not self._cut_all

    def outstanding(self, who: str) -> tuple[Chunk, ...]:
        """What it has taken and not done, in the order in which it was."""
        taker = self._takers.get(who)
        return tuple(self._chunks[index] for index in taker.open) if taker else ()

    def not_begun(self, who: str, at: int | None) -> Chunk | None:
        """What it has taken and has yet to begin, the last that it began being `at` (None: it has begun none)."""
        taker = self._takers.get(who)
        if taker is None:
            return None
        later = taker.had[taker.had.index(at) + 1 :] if at in taker.had else taker.had
        return next((self._chunks[index] for index in later if index in taker.open), None)

    def take(self, who: str, now: float, *, free_in: float = 0.0, before: float | None = None) -> Chunk | None:
        """The next chunk for `who`. None: nothing is left, or others will have done it before `who` could.

        The parent asks again when something has changed, and now and then while something is left: it gets that
        unless somebody is at work who will be in time for it.

        `free_in`: seconds in which `who` expects to be done with what it has, to go on without a pause then.
        `before`: items per second that it did of such a region before. Nobody gets twice what it may have begun.
        """
        self._begun = now if self._begun is None else self._begun
        taker = self._takers[who] = self._seen.setdefault(who, _Taker())
        taker.before = before or taker.before
        if free_in and taker.open and self.ranked:
            return None
        chunk = self._again(who, taker) if self._back.difference(taker.had) else self._next(who, now, free_in)
        if chunk is not None:
            taker.open[chunk.index] = now
            taker.had.append(chunk.index)
        elif not taker.open:
            del self._takers[who]
        return chunk

    def keep(self, now: float, *, little: bool = True) -> Chunk | None:
        """The next chunk, for somebody who is sure to come and to begin with it. Who that is `owned` says.

        `little`: as for one of unknown speed; else whoever it is gets what the slowest would."""
        name = f"kept {len(self._seen)}"
        if (chunk := self.take(name, now, before=None if little else self._least)) is not None:
            self._kept[chunk.index] = name
            # Only one of them is the slowest.
            self._seen[name].before = None
        else:
            del self._seen[name]
        return chunk

    def owned(self, index: int, who: str | None) -> None:
        """The chunk was kept for `who`, and it is as if it had taken it; None: for nobody, it goes back."""
        name = self._kept.pop(index)
        if who is None:
            self.lost(name)
            del self._seen[name]
        else:
            self._takers[who], self._seen[who] = self._takers.pop(name), self._seen.pop(name)

    def begun(self, index: int, who: str, now: float) -> None:
        """`who` is at that chunk, which was its own and went back: it is its own again, unless another has it."""
        taker = self._takers[who] = self._seen.setdefault(who, _Taker())
        taker.had.append(index)
        if index in self._back:
            self._back.remove(index)
            taker.open[index] = now

    @property
    def speeds(self) -> dict[str, float]:
        """Items per second that each was measured to do."""
        return {who: taker.speed for who, taker in self._seen.items() if taker.speed}

    def done(self, index: int, who: str, now: float, took: float | None = None) -> bool:
        """The result of a chunk is there. False: `who` does not hold it, so the result is late or a duplicate.

        What `who` took before that, and did not hand in, it never will: it goes back. `took`: the seconds of these
        since it was taken in which it was executed; None: all since it was done with the one before.
        """
        taker = self._takers.get(who)
        if taker is None or index not in taker.open:
            return False
        before = tuple(takewhile(lambda each: each != index, taker.open))
        self._back.update(before)
        for each in before:
            del taker.open[each]
        seconds, taken = now - taker.since, taker.open.pop(index)
        taker.free = now
        self._done.add(index)
        # It may be told late that it was done with the one before.
        executed = seconds if took is None else min(max(took, 0.0), now - taken)
        taker.overhead = max(0.0, seconds - executed)
        if items := self._chunks[index].items:
            taker.speeds.append(items / max(executed, 1e-6))
        return True

    def lost(self, who: str, *, done_as_well: Iterable[int] = ()) -> None:
        """What `who` holds goes back, to be handed out before anything else, and what it has done, if named."""
        taker = self._takers.pop(who, None)
        self._back.update(taker.open if taker else ())
        if who in self._seen:
            # If it comes again it may be another worker.
            self._seen[who] = _Taker()
        for index in done_as_well:
            self.undone(index)

    def undone(self, index: int) -> None:
        """The result of a chunk that was done cannot be had after all: it goes back."""
        if index in self._done:
            self._done.remove(index)
            self._back.add(index)

    @property
    def _most(self) -> int:
        """Chunks, when all are cut."""
        return max(1, min(MAX_CHUNKS, self.world * self._chunks_per_worker, self.items))

    @property
    def _cut_all(self) -> bool:
        if self.ranked and self.items:
            return len(self._chunks) == self.world
        return bool(self._chunks) and self._chunks[-1].stop == self.items

    def _again(self, who: str, taker: _Taker) -> Chunk | None:
        """The first of those that came back."""
        index = min(self._back.difference(taker.had))
        if not self.items and who:
            return None
        self._back.remove(index)
        return self._chunks[index]

    def _next(self, who: str, now: float, free_in: float) -> Chunk | None:
        if self._cut_all or (not self.items and who):
            return None
        index = len(self._chunks)
        start = self._chunks[-1].stop if self._chunks else 0
        if self.ranked:
            size = self.items // self.world + (index < self.items % self.world)
        else:
            size = self._size(who, now, self.items - start, free_in)
            if self.items and not size:
                return None
        chunk = Chunk(index, start, start + size, index, self.world if self.items else 1)
        self._chunks.append(chunk)
        return chunk

    def _size(self, who: str, now: float, left: int, free_in: float) -> int:
        """How many of the items that are left `who` gets, to begin in so many seconds. 0: better none."""
        since = self._since_before
        usual = self._measured_speed(now) if self._usual is None else self._usual * since
        speed = self._speed_of(self._takers[who], since)
        others = list(self._others(who, now, usual, since))
        awaited = self._awaited(now, usual)
        me = (free_in, speed or usual)
        share = _share(left, me, others + awaited)
        if not share and self._is_refused(who, now, left, free_in):
            return 0
        if free_in and not self._takers[who].speeds:
            # Ahead of its first results nobody takes what those could begin with who have yet to come.
            left_for_it = left - len(awaited)
            if left_for_it <= 0:
                return 0
            share = min(share, left_for_it)
        chunks_left = self._most - len(self._chunks)
        if chunks_left <= 1:
            return left
        ranks = 1 + len(others) + len(awaited)
        rounds = chunks_left / ranks
        if not self._takers[who].speeds:
            # When others will come is a guess: nobody's first part is more than an equal one of what is not done.
            held = sum(self._chunks[index].items for each in self._takers.values() for index in each.open)
            share = min(share, (left + held) // ranks)
        if speed:
            # Alone, what one did says nothing of how it compares to others.
            known = self._takers[who].before is not None and self._usual is not None
            return max(1, int(share * _later(rounds, _KNOWN_PORTION if known else _PORTION)))
        return max(1, int(share * _first(rounds)))

    def _is_refused(self, who: str, now: float, left: int, free_in: float) -> bool:
        """Others will have done all before `who` could do an item. What they did before says nothing sure of that;
        nor do those who may never come, and to the parent only those at work and in time."""
        usual = self._measured_speed(now)
        rivals = list(self._others(who, now, usual, sure=not who))
        return not _share(left, (free_in, self._takers[who].speed or usual), rivals)

    def _speed_of(self, taker: _Taker, since: float | None) -> float | None:
        """As measured. As long as that is little, no less than before, times `since`; None: that is not heeded."""
        if since is None or taker.before is None or self._usual is None or len(taker.speeds) > 1:
            return taker.speed
        return max(taker.before * since, taker.speed or 0.0)

    @property
    def _since_before(self) -> float:
        """How many times as fast as before they are: the items may be others."""
        ratios = [each.speed / each.before for each in self._seen.values() if each.speed and each.before]
        return median(ratios) if ratios else 1.0

    def _measured_speed(self, now: float) -> float:
        """Of ranks whose own is not known: the mean, before that the most that those at work can reach yet."""
        if known := [taker.speed for taker in self._takers.values() if taker.speed]:
            return fmean(known)
        at_work = [taker for taker in self._takers.values() if taker.open and taker.since < now]
        return max(
            (self._chunks[next(iter(each.open))].items / (now - each.since) for each in at_work), default=1.0
        )

    def _others(
        self, who: str, now: float, usual: float, since: float | None = None, *, sure: bool = False
    ) -> Iterator[tuple[float, float]]:
        """In how long each of the others is likely to be free, and its speed. Who is late needs as long again.

        `since`: as of `_speed_of`. `sure`: only those at work whose speed is known, and not if they are late by an
        item.
        """
        for name, taker in self._takers.items():
            if name != who:
                speed = self._speed_of(taker, since) or usual
                items = sum(self._chunks[index].items for index in taker.open)
                due = taker.since + taker.overhead + items / speed if taker.open else now
                if not sure or (taker.open and taker.speed and due + 1 / taker.speed > now):
                    yield abs(due - now) + taker.overhead, speed

    def _awaited(self, now: float, usual: float) -> list[tuple[float, float]]:
        """The same of those that have not come yet: they come after as long again."""
        begun = now if self._begun is None else self._begun
        return [(now - begun, usual)] * max(0, self.world - len(self._seen))


def _first(rounds: float) -> float:
    """What portion of its share a rank of unknown speed takes when each can come so often."""
    return max(_FIRST, 0.5 ** (math.ceil(rounds) - 1))


def _later(rounds: float, portion: float) -> float:
    """The same of one whose speed is known: enough for the chunks that remain to be no larger."""
    return min(1.0, max(portion, 1 / rounds))


def _share(left: int, me: tuple[float, float], others: list[tuple[float, float]]) -> int:
    """How many of `left` items one of them would do if all work until nothing is left.

    That is within the first time in which all together could do `left` whole items. Of each: in how many seconds
    it is free, and its items per second.
    """
    workers = [me, *others]
    early, late = 0.0, min(free + left / each for free, each in workers)
    for _ in range(24):
        middle = (early + late) / 2
        done = 0
        for free, each in workers:
            if free < middle:
                done += int((middle - free) * each)
        if done >= left:
            late = middle
        else:
            early = middle
    free, speed = me
    return min(left, max(0, math.floor((late - free) * speed + 1e-6)))
