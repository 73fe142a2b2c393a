"""The only definition of what crosses a wire."""

from comfy_dist.messages.base import Message, Prompt, now_ms
from comfy_dist.messages.commands import Command, Reply, Verb
from comfy_dist.messages.events import (
    AttemptFailed,
    Cancelled,
    Cleared,
    Deleted,
    Ended,
    Event,
    Failed,
    Finished,
    Released,
    Started,
    StatusMessages,
    Submitted,
    Trailing,
    parse_event,
)
from comfy_dist.messages.facts import (
    AttemptFailedFact,
    CancelledFact,
    EndedFact,
    Fact,
    JoinedFact,
    ReleasedFact,
    RouteFact,
    StartedFact,
    SurvivedFact,
    parse_fact,
)
from comfy_dist.messages.job import SECRET_KEYS, Job, Urgency
from comfy_dist.messages.presence import Announcement, Catalogue, CurrentJob, Device, WorkerState
from comfy_dist.messages.progress import Progress
from comfy_dist.messages.requirements import ANYBODY, Requirements
from comfy_dist.messages.route import Route

__all__ = [
    "ANYBODY",
    "SECRET_KEYS",
    "Announcement",
    "AttemptFailed",
    "AttemptFailedFact",
    "Cancelled",
    "CancelledFact",
    "Catalogue",
    "Cleared",
    "Command",
    "CurrentJob",
    "Deleted",
    "Device",
    "Ended",
    "EndedFact",
    "Event",
    "Fact",
    "Failed",
    "Finished",
    "Job",
    "JoinedFact",
    "Message",
    "Progress",
    "Prompt",
    "Released",
    "ReleasedFact",
    "Reply",
    "Requirements",
    "Route",
    "RouteFact",
    "Started",
    "StartedFact",
    "StatusMessages",
    "Submitted",
    "SurvivedFact",
    "Trailing",
    "Urgency",
    "Verb",
    "WorkerState",
    "now_ms",
    "parse_event",
    "parse_fact",
]
