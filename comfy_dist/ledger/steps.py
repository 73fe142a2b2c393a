"""What the entries of the log do, one after another: a pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeGuard

from comfy_dist.ledger.fold import JobEvent, JobRow, fold
from comfy_dist.messages import Cancelled, Cleared, Deleted, Event, WebhookClaimed, WebhookTried
from comfy_dist.transport import Recorded


@dataclass(frozen=True, slots=True)
class Change:
    """An event and what it made of its job; before is None where the job was not known."""

    event: JobEvent
    before: JobRow | None
    after: JobRow

    @property
    def submitted(self) -> bool:
        """Whether this event is the job's submission (the first one that is)."""
        return bool(self.after.created_at) and not (self.before and self.before.created_at)

    @property
    def ended(self) -> bool:
        """Whether this event is the end of the job (the first one that is)."""
        return self.after.state.ended and not (self.before and self.before.state.ended)


#: What one entry of the log asks to be written.
Step: TypeAlias = Change | Deleted | Cleared | WebhookClaimed | WebhookTried


@dataclass(slots=True)
class Counters:
    """The last numbers that were given."""

    arrival: int = 0
    rank: int = 0


def changes_a_job(event: Event | None) -> TypeGuard[JobEvent]:
    return event is not None and not isinstance(event, (Deleted, Cleared, WebhookClaimed, WebhookTried))


def steps_of(entries: Sequence[Recorded], rows: dict[str, JobRow], counters: Counters) -> list[Step]:
    """`rows` is what is known of the jobs before and, then, after."""
    steps: list[Step] = []
    for entry in entries:
        match entry.event:
            case None:
                pass
            case Deleted() | Cleared() | WebhookClaimed() | WebhookTried():
                steps.append(entry.event)
            case event:
                steps.append(_step(event, rows, counters))
    return steps


def _step(event: JobEvent, rows: dict[str, JobRow], counters: Counters) -> Change:
    before = rows.get(event.job_id)
    if before is None:
        counters.arrival += 1
    after = fold(before or JobRow(id=event.job_id, arrival=counters.arrival), event)
    if after.state.ended and not (before and before.state.ended) and not _never_began(event):
        counters.rank += 1
        after = replace(after, rank=counters.rank)
    rows[event.job_id] = after
    return Change(event, before, after)


def _never_began(event: JobEvent) -> bool:
    """As in ComfyUI, a job that was cancelled before it began leaves no history entry."""
    return isinstance(event, Cancelled) and not event.started
