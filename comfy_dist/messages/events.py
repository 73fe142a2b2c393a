"""Job events: the durable log that every frontend folds into its ledger."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from comfy_dist.messages.base import Count, JobId, Message, Number, Prompt, Time, WorkerId, now_ms
from comfy_dist.messages.job import Job, Urgency
from comfy_dist.messages.requirements import Requirements
from comfy_dist.messages.trace import Spans
from comfy_dist.messages.webhook import Webhook

#: ComfyUI's status messages as history shows them: [event name, data].
StatusMessages: TypeAlias = tuple[tuple[str, dict[str, Any]], ...]


class _Event(Message):
    v: Literal[1] = 1
    #: Milliseconds since the epoch.
    at: Time = Field(default_factory=now_ms)


class _JobEvent(_Event):
    job_id: JobId


class Submitted(_JobEvent):
    """The job was accepted by a frontend. Carries all of it but credentials."""

    type: Literal["submitted"] = "submitted"
    prompt: Prompt
    extra_data: dict[str, Any] = {}
    outputs_to_execute: tuple[str, ...] = ()
    client_id: str | None = None
    number: Number = 0
    urgency: Urgency = Urgency.NORMAL
    user: str | None = None
    requirements: Requirements | None = None
    webhook: Webhook | None = None
    frontend: str = ""

    @classmethod
    def of(cls, job: Job) -> Submitted:
        return cls(
            at=job.created_at or now_ms(),
            job_id=job.id,
            prompt=job.prompt,
            extra_data=job.public_extra_data(),
            outputs_to_execute=job.outputs_to_execute,
            client_id=job.client_id,
            number=job.number,
            urgency=job.urgency,
            user=job.user,
            requirements=job.requirements,
            webhook=job.webhook,
            frontend=job.frontend,
        )


class Started(_JobEvent):
    """A worker won the claim for this attempt and executes the job.

    Sent after a moment: of a job that has ended by then, its end tells everything.
    """

    type: Literal["started"] = "started"
    #: Here too: a short job's events may overtake `submitted`, and its client waits for the end.
    client_id: str | None = None
    user: str | None = None
    worker: WorkerId
    engine: str = ""
    device: str = ""
    #: Counts from 1.
    attempt: Count


class AttemptFailed(_JobEvent):
    """The engine or the worker died under the job; it may be tried again."""

    type: Literal["attempt_failed"] = "attempt_failed"
    worker: WorkerId
    attempt: Count
    #: The node that was executing, where known.
    node: str | None = None
    reason: str


class Released(_JobEvent):
    """The worker gave the job back unfinished (drain); it waits again, and nothing is held against anybody."""

    type: Literal["released"] = "released"
    worker: WorkerId
    attempt: Count


class Trailing(Message):
    """A text message for the client's websocket that had not been sent when its job ended."""

    event: str
    #: Display id of the node it is about.
    node: str | None = None
    #: The text frame.
    body: str


class _Ended(_JobEvent):
    worker: WorkerId | None = None
    #: As in Started.
    client_id: str | None = None
    user: str | None = None
    #: When the attempt that ended began; 0: the worker that writes this began none.
    started_at: Count = 0
    #: Id of the folder that the outputs are wanted in, where they do not lie in it: whose it is fetches them.
    home: str = ""
    #: What output nodes reported: {node_id: {"images": [...], ...}}.
    outputs: dict[str, dict[str, Any]] = {}
    #: {node_id: {node_id, display_node, parent_node, real_node_id}}, as in ComfyUI's history.
    meta: dict[str, dict[str, Any]] = {}
    messages: StatusMessages = ()
    #: Milliseconds by executed node.
    timings: dict[str, float] = {}
    #: Its timeline and that of its calls.
    spans: Spans = ()
    #: Sequence number of the last progress message, so that a client sees it before the end.
    last_sequence: Count = 0
    #: The last progress messages themselves, where they were not sent before.
    trail: tuple[Trailing, ...] = ()
    #: The attempt whose messages those are.
    attempt: Count = 1


class Finished(_Ended):
    type: Literal["finished"] = "finished"


class Failed(_Ended):
    """Ended with an error. `error` is the data of ComfyUI's execution_error."""

    type: Literal["failed"] = "failed"
    error: dict[str, Any]
    attempts: Count = 1


class Cancelled(_Ended):
    """Cancelled by someone; `started` tells whether it had begun (then it has a history entry)."""

    type: Literal["cancelled"] = "cancelled"
    by: str = ""
    started: bool = False


class WebhookClaimed(_JobEvent):
    """`frontend` is about to send a webhook; the first claim of an attempt's number has it, as with jobs."""

    type: Literal["webhook_claimed"] = "webhook_claimed"
    #: The delivery's id, the same for every attempt and on every frontend.
    webhook: str
    #: Counts from 1.
    attempt: int = Field(ge=1, le=1000)
    frontend: str


class WebhookTried(_JobEvent):
    """What became of that attempt."""

    type: Literal["webhook_tried"] = "webhook_tried"
    webhook: str
    attempt: int = Field(ge=1, le=1000)
    frontend: str
    #: Seconds until the next attempt; None: delivered, or given up.
    again_in: float | None = Field(None, ge=0, le=1e6)


class Revoked(_JobEvent):
    """The submission was refused to its client for want of a confirmation: as if it had never been.

    Where the job was submitted again meanwhile, it stands.
    """

    type: Literal["revoked"] = "revoked"
    #: The submission's own time.
    submitted_at: Count


class Resubmitted(_JobEvent):
    """A job that waits was submitted once more: it stands, whether or not the earlier submission is revoked.

    `at` is the time of this submission.
    """

    type: Literal["resubmitted"] = "resubmitted"


class Deleted(_Event):
    """These jobs were removed from the history."""

    type: Literal["deleted"] = "deleted"
    job_ids: tuple[str, ...]


class Cleared(_Event):
    """The history was cleared."""

    type: Literal["cleared"] = "cleared"
    #: Whose; None: everybody's.
    user: str | None = None


Ended: TypeAlias = Finished | Failed | Cancelled
Event: TypeAlias = (
    Submitted
    | Started
    | AttemptFailed
    | Released
    | Finished
    | Failed
    | Cancelled
    | Resubmitted
    | Revoked
    | WebhookClaimed
    | WebhookTried
    | Deleted
    | Cleared
)

_adapter: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


def parse_event(body: bytes) -> Event | None:
    """The event in `body`, or None for one that this version does not know."""
    try:
        return _adapter.validate_json(body)
    except ValidationError:
        return None
