"""How one job event changes what is known of a job: a pure function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

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


class JobState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (JobState.FINISHED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """What the ledger keeps at hand of one job."""

    id: str
    #: Its place among all jobs as they were first heard of: all frontends read the same log, so the same on each
    #: of them whatever their clocks say.
    arrival: int = 0
    state: JobState = JobState.PENDING
    number: float = 0
    urgency: int = Urgency.NORMAL.rank
    client_id: str | None = None
    user: str | None = None
    #: Workers of the attempts so far.
    workers: tuple[str, ...] = ()
    #: Milliseconds since the epoch; 0: not yet.
    created_at: int = 0
    started_at: int = 0
    ended_at: int = 0
    #: Its place in the history; None: it has none there.
    rank: int | None = None

    @property
    def void(self) -> bool:
        """Whether its submission was revoked, and nobody has begun it."""
        return self.state is JobState.PENDING and bool(self.ended_at)

    @property
    def turn(self) -> tuple[int, bool, int]:
        """Sorts what waits in the order of execution: what was given back is at the head of its queue."""
        return self.urgency, not self.started_at, self.arrival

    @property
    def worker(self) -> str | None:
        """The worker of the current or last attempt."""
        return self.workers[-1] if self.workers else None


JobEvent = Submitted | Resubmitted | Revoked | Started | AttemptFailed | Released | Finished | Failed | Cancelled


def fold(row: JobRow | None, event: JobEvent) -> JobRow:
    """The job after the event.

    The first of finished, failed and cancelled counts; what comes after it changes nothing. Events of different
    senders may overtake each other (started before submitted), and any may come twice.
    """
    row = row or JobRow(id=event.job_id)
    match event:
        case Revoked() if (
            row.state is JobState.PENDING and not row.workers and row.created_at in (0, event.submitted_at)
        ):
            return replace(row, created_at=0, ended_at=event.at)
        case Revoked():
            return row
        case Resubmitted() if row.state is JobState.PENDING and not row.workers:
            return replace(row, created_at=event.at, ended_at=0)
        case Resubmitted():
            return row
        case Submitted() if row.created_at:
            return row
        case Submitted():
            return replace(
                row,
                number=event.number,
                urgency=event.urgency.rank,
                client_id=event.client_id,
                user=event.user,
                created_at=event.at,
                ended_at=row.ended_at if row.state.ended else 0,
            )
        case _ if row.state.ended:
            return row
        case _ if row.void:
            return fold(replace(row, ended_at=0), event)
        case Started() if row.state is JobState.RUNNING and row.worker == event.worker:
            return row
        case Started():
            workers = (*row.workers[: event.attempt - 1], event.worker)
            if len(workers) < len(row.workers):
                return row
            return replace(
                row,
                state=JobState.RUNNING,
                workers=workers,
                started_at=event.at,
                client_id=row.client_id or event.client_id,
                user=row.user or event.user,
            )
        case AttemptFailed():
            if len(row.workers) > event.attempt:
                return row
            return replace(row, state=JobState.PENDING)
        case Released():
            # Not by number: attempts that were given back before are not among the workers.
            if row.state is not JobState.RUNNING or row.worker != event.worker:
                return row
            return replace(row, state=JobState.PENDING, workers=row.workers[:-1])
        case Finished():
            return _ended(row, event, JobState.FINISHED)
        case Failed():
            return _ended(row, event, JobState.FAILED)
        case Cancelled():
            return _ended(row, event, JobState.CANCELLED)


def _ended(row: JobRow, event: Finished | Failed | Cancelled, state: JobState) -> JobRow:
    """With what `started` would have told, where the job was too short for it."""
    workers = row.workers
    if row.state is not JobState.RUNNING and event.worker is not None and event.started_at:
        workers = (*workers, event.worker)
    return replace(
        row,
        state=state,
        workers=workers,
        client_id=row.client_id or event.client_id,
        user=row.user or event.user,
        started_at=row.started_at or event.started_at,
        ended_at=event.at,
    )
