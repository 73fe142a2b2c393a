"""Whom to tell of what happens to a job."""

from __future__ import annotations

from enum import StrEnum

from comfy_dist.messages.base import Message


class HookEvent(StrEnum):
    """What a webhook can be told: ComfyUI's names of the websocket messages that say the same."""

    START = "execution_start"
    SUCCESS = "execution_success"
    ERROR = "execution_error"
    INTERRUPTED = "execution_interrupted"


class Webhook(Message):
    """An address that is sent a job's events. It may hold what should not be seen, so only senders read it."""

    url: str
    events: tuple[HookEvent, ...]
