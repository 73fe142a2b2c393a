"""Control facts: thin messages (some 300 bytes) on one stream whose order arbitrates between workers."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from comfy_dist.messages.base import Count, JobId, Message, WorkerId
from comfy_dist.messages.route import Route

#: Facts are thin: all that are kept are read by every worker that starts.
REASON_CHARACTERS = 80


class _JobFact(Message):
    job: JobId


class StartedFact(_JobFact):
    """`worker` claims attempt number `attempt` (from 1); the first claim of a number wins."""

    type: Literal["started"] = "started"
    worker: WorkerId
    attempt: Count
    #: What that worker has ended since it last told: as an `ended` fact for each, without a message for each.
    ended: tuple[JobId, ...] = ()


class AttemptFailedFact(_JobFact):
    """The attempt ended by a dying engine; the next one may be claimed at once."""

    type: Literal["attempt_failed"] = "attempt_failed"
    worker: WorkerId
    attempt: Count
    #: How, in at most REASON_CHARACTERS: "exited with code 3 at node 7".
    reason: str = ""


class ReleasedFact(_JobFact):
    """The worker gave the job back unfinished (drain); the attempt counts against nobody."""

    type: Literal["released"] = "released"
    worker: WorkerId
    attempt: Count


class SurvivedFact(_JobFact):
    """The worker was only cut off: it lives and still executes; the attempt counts against nobody."""

    type: Literal["survived"] = "survived"
    worker: WorkerId
    attempt: Count


class EndedFact(_JobFact):
    """The job's end stands in the event log; later deliveries of it are void."""

    type: Literal["ended"] = "ended"


class CancelledFact(_JobFact):
    """Someone cancelled the job: drop it if it has not begun, else interrupt it."""

    type: Literal["cancelled"] = "cancelled"
    by: str = ""


class RevokedFact(_JobFact):
    """The job as it was submitted at that time was refused to its client: drop that delivery of it."""

    type: Literal["revoked"] = "revoked"
    submitted_at: Count


class RouteFact(Message):
    """Jobs may wait on this route from now on: a worker that meets what it asks for serves it."""

    type: Literal["route"] = "route"
    route: Route


class _OfWorkers(Message):
    """About the worker of that id, those of that name, or all where neither is said."""

    #: An id is that of one start of a worker.
    worker: str | None = None
    #: A name stays.
    name: str | None = None


class PausedFact(_OfWorkers):
    """They finish what they have and take no more, until they are resumed."""

    type: Literal["paused"] = "paused"
    #: A pause that stands already is said again, lest the stream forget it (docs/protocol.md, "Pausing").
    again: bool = False


class ResumedFact(_OfWorkers):
    """Their pause is over."""

    type: Literal["resumed"] = "resumed"


class JoinedFact(Message):
    """A reader wrote this to learn when it has caught up with the stream."""

    type: Literal["joined"] = "joined"
    reader: str


Fact: TypeAlias = (
    StartedFact
    | AttemptFailedFact
    | ReleasedFact
    | SurvivedFact
    | EndedFact
    | CancelledFact
    | RevokedFact
    | PausedFact
    | ResumedFact
    | JoinedFact
    | RouteFact
)

_adapter: TypeAdapter[Fact] = TypeAdapter(Annotated[Fact, Field(discriminator="type")])


def parse_fact(body: bytes) -> Fact | None:
    """The fact in `body`, or None for one that this version does not know."""
    try:
        return _adapter.validate_json(body)
    except ValidationError:
        return None
