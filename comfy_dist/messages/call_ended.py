"""How a call ended."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ValidationError

from comfy_dist.messages.base import Count, JobId, Message
from comfy_dist.messages.events import StatusMessages, Trailing
from comfy_dist.messages.trace import Spans


class CallEnded(Message):
    """How a call ended, told to the worker of its parent."""

    call: JobId
    parent: JobId
    #: Of the parent.
    parent_attempt: Count
    status: Literal["finished", "failed", "cancelled"]
    #: Name of the worker that executed it last.
    worker: str = ""
    attempt: Count = 1
    #: What output nodes showed, and more about it, as in the events that end a job.
    outputs: dict[str, dict[str, Any]] = {}
    meta: dict[str, dict[str, Any]] = {}
    messages: StatusMessages = ()
    timings: dict[str, float] = {}
    #: Of its nodes.
    spans: Spans = ()
    #: Id of the folder that the outputs are wanted in, where they do not lie in it.
    home: str = ""
    #: Of one that failed: the data of execution_error.
    error: dict[str, Any] = {}
    #: The last progress messages, where they were not sent before.
    trail: tuple[Trailing, ...] = ()
    started_at: Count = 0
    ended_at: Count = 0


def parse_call_ended(body: bytes) -> CallEnded | None:
    """What is in `body`, or None where this version does not understand it."""
    try:
        return CallEnded.model_validate_json(body)
    except ValidationError:
        return None
