"""Who may execute a job: the fold of the control stream.

Every worker folds the same facts in the same order, so all come to the same answer. Attempt n belongs to the first
`started` fact with number n; a rival's fact with that number, or a lower one, has no effect. A number that is left
out belongs to nobody: whoever had it did not claim it (worker/late_claim.py).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from comfy_dist.messages import (
    AttemptFailedFact,
    CancelledFact,
    EndedFact,
    Fact,
    JoinedFact,
    PausedFact,
    ReleasedFact,
    ResumedFact,
    RevokedFact,
    RouteFact,
    StartedFact,
    SurvivedFact,
)

#: Ended jobs that are remembered, in 18 MB. A second delivery of a job, parked ones too, waits behind what its
#: queue holds, which --max-queue-size (65,536) bounds; so it is met before so many others have ended. One that is
#: met later all the same, behind more urgent jobs, runs a second time, and its second end is ignored.
REMEMBERED = 100_000


class AttemptState(Enum):
    #: Claimed; no word of its end.
    OPEN = "open"
    #: The engine died under it.
    FAILED = "failed"
    #: Given back unfinished.
    RELEASED = "released"
    #: The worker was cut off and showed up again.
    SURVIVED = "survived"


@dataclass(frozen=True, slots=True)
class Death:
    """An attempt that ended by a dying engine or worker."""

    worker: str
    #: In a few words.
    how: str = "ended without a word"

    def __str__(self) -> str:
        return f"{self.worker} {self.how}"


@dataclass(slots=True)
class Attempt:
    worker: str
    state: AttemptState = AttemptState.OPEN
    #: Of one that failed, what its worker said of it.
    reason: str = ""

    @property
    def death(self) -> Death:
        return Death(self.worker, self.reason) if self.reason else Death(self.worker)


@dataclass(slots=True)
class _Claimed:
    #: By number, in order.
    attempts: dict[int, Attempt] = field(default_factory=dict)
    cancelled_by: str | None = None
    #: Times of the submissions that were refused to their clients.
    revoked: set[int] = field(default_factory=set)

    @property
    def last(self) -> int:
        """Number of the last attempt; 0: there was none."""
        return next(reversed(self.attempts), 0)


@dataclass(frozen=True, slots=True)
class Void:
    """The job has ended: nothing is left to do."""


@dataclass(frozen=True, slots=True)
class WasCancelled:
    """Drop it, and say so in the log."""

    by: str
    started: bool


@dataclass(frozen=True, slots=True)
class HeldBy:
    """Another worker's attempt stands; it goes on if that worker is alive."""

    worker: str


@dataclass(frozen=True, slots=True)
class Free:
    """The next attempt may be claimed under this number."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Poisonous:
    """Too many engines or workers died under it: these."""

    deaths: tuple[Death, ...]


Verdict: TypeAlias = Void | WasCancelled | HeldBy | Free | Poisonous


_LiveFact: TypeAlias = AttemptFailedFact | CancelledFact | ReleasedFact | RevokedFact | StartedFact | SurvivedFact


class Claims:
    """What the facts folded so far say of each job."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Claimed] = {}
        #: As an ordered set, the latest last.
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._joined: set[str] = set()

    def fold(self, fact: Fact) -> None:
        """Take in the next fact of the stream."""
        if isinstance(fact, JoinedFact):
            self._joined.add(fact.reader)
            return
        if isinstance(fact, (PausedFact, ResumedFact, RouteFact)):
            return
        if isinstance(fact, EndedFact):
            self._end(fact.job)
        elif isinstance(fact, StartedFact):
            for job in fact.ended:
                self._end(job)
        if fact.job not in self._ended and not isinstance(fact, EndedFact):
            self._fold_live(fact)

    def _end(self, job: str) -> None:
        self._ended[job] = None
        self._jobs.pop(job, None)
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)

    def _fold_live(self, fact: _LiveFact) -> None:
        if isinstance(fact, (AttemptFailedFact, ReleasedFact, SurvivedFact)) and fact.job not in self._jobs:
            # Of an attempt that was never claimed.
            return
        claimed = self._jobs.setdefault(fact.job, _Claimed())
        if isinstance(fact, CancelledFact):
            if claimed.cancelled_by is None:
                claimed.cancelled_by = fact.by
            return
        if isinstance(fact, RevokedFact):
            claimed.revoked.add(fact.submitted_at)
            return
        if isinstance(fact, StartedFact):
            if fact.attempt > claimed.last:
                claimed.attempts[fact.attempt] = Attempt(fact.worker)
            return
        attempt = claimed.attempts.get(fact.attempt)
        if attempt is None or attempt.worker != fact.worker:
            return
        match fact:
            case AttemptFailedFact():
                attempt.state = AttemptState.FAILED
                attempt.reason = fact.reason
            case ReleasedFact():
                attempt.state = AttemptState.RELEASED
            case SurvivedFact():
                # Sent after a reconnection; the attempt may have ended meanwhile, and nobody executes it then.
                if attempt.state is AttemptState.OPEN:
                    attempt.state = AttemptState.SURVIVED

    def has_joined(self, reader: str) -> bool:
        """Whether the reader's own `joined` fact has come: everything before it is folded."""
        return reader in self._joined

    def holds(self, job: str, worker: str, attempt: int) -> bool:
        """Whether that worker won that attempt."""
        return self.holder(job) == (worker, attempt)

    def is_cancelled(self, job: str) -> str | None:
        """Who cancelled the job; None where nobody did."""
        claimed = self._jobs.get(job)
        return claimed.cancelled_by if claimed else None

    def is_revoked(self, job: str, submitted_at: int) -> bool:
        """Whether that submission of the job was refused to its client."""
        claimed = self._jobs.get(job)
        return claimed is not None and submitted_at in claimed.revoked

    def knows(self, job: str) -> bool:
        """Whether something was told of the job, and not its end."""
        return job in self._jobs

    def has_ended(self, job: str) -> bool:
        return job in self._ended

    def is_superseded(self, job: str, attempt: int) -> bool:
        """Whether nobody waits any more for what that attempt has sent for: it is over, or the job is."""
        if job in self._ended:
            return True
        claimed = self._jobs.get(job)
        if claimed is None:
            return False
        if claimed.cancelled_by is not None or claimed.last > attempt:
            return True
        over = (AttemptState.FAILED, AttemptState.RELEASED)
        return claimed.last == attempt and claimed.attempts[attempt].state in over

    def holder(self, job: str) -> tuple[str, int] | None:
        """Who has claimed the last attempt of a job that has not ended, and its number."""
        claimed = self._jobs.get(job)
        if claimed is None or not claimed.attempts:
            return None
        return claimed.attempts[claimed.last].worker, claimed.last

    def attempts(self, job: str) -> int:
        """Number of the last attempt that was claimed; 0: none was."""
        claimed = self._jobs.get(job)
        return claimed.last if claimed else 0

    def verdict(self, job: str, *, gone: frozenset[str], max_attempts: int) -> Verdict:
        """What to do with a delivery of the job, given workers that are known to be gone."""
        if job in self._ended:
            return Void()
        claimed = self._jobs.get(job)
        if claimed is None:
            return Free(1)
        if claimed.cancelled_by is not None:
            return WasCancelled(claimed.cancelled_by, started=bool(claimed.attempts))
        for number, attempt in reversed(claimed.attempts.items()):
            # Of the earlier ones only a survivor's goes on: its worker was taken for gone, and is back.
            last = number == claimed.last
            goes_on = attempt.state is AttemptState.SURVIVED or (last and attempt.state is AttemptState.OPEN)
            if goes_on and attempt.worker not in gone:
                return HeldBy(attempt.worker)
        dead = tuple(
            attempt.death
            for attempt in claimed.attempts.values()
            if attempt.state in (AttemptState.OPEN, AttemptState.FAILED)
        )
        return Poisonous(dead) if len(dead) >= max_attempts else Free(claimed.last + 1)
