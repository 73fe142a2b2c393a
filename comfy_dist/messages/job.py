"""A job: one prompt on the queue."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from comfy_dist.messages.base import Count, JobId, Message, Number, Prompt
from comfy_dist.messages.call import Call
from comfy_dist.messages.files import InputFile
from comfy_dist.messages.requirements import Requirements
from comfy_dist.messages.spread import EVERYWHERE, Spread
from comfy_dist.messages.webhook import Webhook

#: Keys of extra_data that hold credentials; they travel in the job only, never in events or answers.
SECRET_KEYS = frozenset({"auth_token_comfy_org", "api_key_comfy_org"})


class Urgency(StrEnum):
    """Which of the work queues a job waits in; within one queue it is first come, first served."""

    #: Sent by a node of a running job, which waits for it.
    CALL = "call"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 is served first."""
        return tuple(Urgency).index(self)


class Job(Message):
    """One prompt on the queue."""

    #: ComfyUI's prompt_id.
    id: JobId
    prompt: Prompt
    #: Whose websocket receives progress; None: everyone's receives what ComfyUI sends to all.
    client_id: str | None = None
    extra_data: dict[str, Any] = {}
    #: The output nodes to execute, those that passed validation.
    outputs_to_execute: tuple[str, ...] = ()
    #: Time-ordered rank that clients see, as ComfyUI's `number`; negative for `front`.
    number: Number = 0
    urgency: Urgency = Urgency.NORMAL
    #: Who submitted it, where frontends know their users.
    user: str | None = None
    #: What it asks of the worker that executes it.
    requirements: Requirements | None = None
    #: Who takes part where its work is shared out.
    spread: Spread = EVERYWHERE
    #: Hash of the catalogue that every live worker had when the job was accepted: who has the same need not look
    #: whether it can execute it. "": they differed.
    catalogue: str = ""
    #: Of a call: who waits for it. It has no events; its end is told to the worker of its parent.
    call: Call | None = None
    #: Where its events are to be told; not part of extra_data, which queue and history show.
    webhook: Webhook | None = None
    #: The frontend that accepted it.
    frontend: str = ""
    #: Ids of that frontend's input, output and temp folder.
    folders: dict[str, str] = {}
    #: Files there that the prompt names.
    files: tuple[InputFile, ...] = ()
    #: Milliseconds since the epoch.
    created_at: Count = 0

    def public_extra_data(self) -> dict[str, Any]:
        """extra_data without credentials."""
        return {key: value for key, value in self.extra_data.items() if key not in SECRET_KEYS}
