"""What ComfyUI's history says of a prompt, as an engine's outcome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from comfy_dist.engine.comfyui.server import ServerFault, list_of
from comfy_dist.engine.protocol import Errored, Executed, Interrupted, Outcome
from comfy_dist.messages import Job, Message, StatusMessages, now_ms

#: Events that end a prompt.
ENDS = frozenset({"execution_success", "execution_error", "execution_interrupted"})


class _Status(Message):
    status_str: str = ""
    messages: StatusMessages = ()


class HistoryEntry(Message):
    """A prompt's entry in ComfyUI's /history, as much of it as matters here."""

    outputs: dict[str, dict[str, Any] | None] = {}
    meta: dict[str, dict[str, Any] | None] = {}
    status: _Status | None = None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> HistoryEntry:
        """Raises ServerFault for another shape."""
        try:
            return cls.model_validate(entry)
        except ValidationError:
            raise ServerFault("Its history entry has another shape than ComfyUI's.") from None

    @property
    def messages(self) -> StatusMessages:
        return self.status.messages if self.status else ()

    @property
    def succeeded(self) -> bool:
        return self.status is not None and self.status.status_str == "success"


def outcome_of(
    entry: HistoryEntry, job: Job, outputs: dict[str, dict[str, Any]], timings: dict[str, float]
) -> Outcome:
    """The end that the entry tells; `outputs` are its own with their files published."""
    messages = entry.messages
    common: dict[str, Any] = {
        "outputs": outputs,
        "meta": {node: meta for node, meta in entry.meta.items() if meta is not None},
        "timings": timings,
    }
    # The last one counts: a blocked node tells an error before the success.
    end = next((message for message in reversed(messages) if message[0] in ENDS), None)
    if end is None:
        if not entry.succeeded:
            return failed(job, "ComfyUI says that the prompt failed, and not why.", "Unknown", **common)
        end = ("execution_success", {"prompt_id": job.id, "timestamp": now_ms()})
        messages = (*messages, end)
    match end[0]:
        case "execution_success":
            return Executed(**common, messages=messages)
        case "execution_interrupted":
            return Interrupted(**common, messages=messages)
        case _:
            return Errored(**common, messages=messages, error=end[1])


def interrupted(job: Job) -> Interrupted:
    """Stopped before it began."""
    data: dict[str, Any] = {
        "prompt_id": job.id,
        "node_id": None,
        "node_type": None,
        "executed": [],
        "timestamp": now_ms(),
    }
    return Interrupted(messages=(("execution_interrupted", data),))


def failed(job: Job, message: str, kind: str, *, node: str | None = None, **common: Any) -> Errored:
    """A failure in the shape of ComfyUI's execution_error, of `node` or of none."""
    entry = job.prompt.get(node) if node is not None else None
    error: dict[str, Any] = {
        "prompt_id": job.id,
        "node_id": node or "",
        "node_type": str(entry.get("class_type", "")) if isinstance(entry, dict) else "",
        "executed": [],
        "exception_message": message,
        "exception_type": kind,
        "traceback": [],
        "current_inputs": {},
        "current_outputs": [],
        "timestamp": now_ms(),
    }
    start = {"prompt_id": job.id, "timestamp": now_ms()}
    return Errored(**common, messages=(("execution_start", start), ("execution_error", error)), error=error)


def refused(job: Job, error: Mapping[str, Any] | None, node_errors: Mapping[str, Any]) -> Errored:
    """The outcome of a prompt that this ComfyUI does not accept, though it was accepted elsewhere."""
    error = error or {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation"}
    node, found = next(
        ((node, found) for node, found in node_errors.items() if isinstance(found, dict)), (None, {})
    )
    reasons = [
        f"{reason.get('message')}: {reason.get('details')}"
        for reason in list_of(found.get("errors"))
        if isinstance(reason, dict)
    ]
    message = f"{error.get('message')} {error.get('details') or ''}".strip()
    return failed(job, "\n".join([message, *reasons]) + "\n", str(error.get("type")), node=node)
