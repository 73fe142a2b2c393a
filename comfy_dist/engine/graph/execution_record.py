"""What is told of one execution: events to the client on the way, and the outcome at the end."""

from __future__ import annotations

import time
from typing import Any, Protocol

from comfy_dist.engine.graph.dynamic_prompt import DynamicPrompt
from comfy_dist.engine.graph.failures import NodeFailed, describe_block, describe_failure
from comfy_dist.engine.graph.links import ExecutionBlocker
from comfy_dist.engine.graph.progress import NodeProgress


class Sender(Protocol):
    """Where events go."""

    #: Whether the prompt is a call.
    of_call: bool

    def event(self, event: str, data: dict[str, Any]) -> None:
        """Send with the next flush."""
        ...

    def preview(self, node: str, body: bytes) -> None: ...

    def text(self, node: str, text: str) -> None: ...

    def flush(self) -> None: ...


class ExecutionRecord:
    """Sends ComfyUI's events, and keeps what its history shows."""

    def __init__(self, prompt_id: str, prompt: DynamicPrompt, sender: Sender) -> None:
        self._prompt_id = prompt_id
        self._prompt = prompt
        self._sender = sender
        self._progress = NodeProgress(prompt_id, prompt, sender.event, sender.preview)
        #: In order; ComfyUI's `executed`.
        self._executed: dict[str, None] = {}
        #: {node id: its ui}
        self._outputs: dict[str, dict[str, Any]] = {}
        self._messages: list[tuple[str, dict[str, Any]]] = []
        self._timings: dict[str, float] = {}

    def start(self) -> None:
        self._message("execution_start", {"prompt_id": self._prompt_id})

    def cached(self, node_ids: list[str]) -> None:
        self._message("execution_cached", {"nodes": node_ids, "prompt_id": self._prompt_id})

    def node_started(self, node_id: str, *, hidden: bool = False) -> None:
        """That of a hidden node is told with what comes next, or when it is waited for; of a call, not at all."""
        self._progress.start(node_id, hidden=hidden)
        display = self._prompt.get_display_node_id(node_id)
        data = {"node": node_id, "display_node": display, "prompt_id": self._prompt_id}
        if not hidden:
            self._sender.event("executing", data)
            self._sender.flush()
        elif not self._sender.of_call:
            self._sender.event("executing", data)

    def node_reported(self, node_id: str, value: float, maximum: float, preview: Any) -> None:
        """A node's progress. It goes out at once."""
        self._progress.update(node_id, value, maximum, preview)
        self._sender.flush()

    def node_timed(self, node_id: str, seconds: float) -> None:
        self._timings[node_id] = round(seconds * 1000, 3)

    def node_shown(self, node_id: str, ui: dict[str, Any] | None) -> None:
        """A node has, or had when it was cached, something to show. Raises ValueError for what cannot be sent."""
        display = self._prompt.get_display_node_id(node_id)
        data = {"node": node_id, "display_node": display, "output": ui, "prompt_id": self._prompt_id}
        self._sender.event("executed", data)
        if ui is not None:
            self._outputs[node_id] = ui

    def node_finished(self, node_id: str, *, executed: bool) -> None:
        self._progress.finish(node_id)
        if executed:
            self._executed[node_id] = None

    def node_blocked(self, node_id: str, blocker: ExecutionBlocker) -> ExecutionBlocker:
        """Tell of a blocker with a message; what comes after is blocked silently."""
        if blocker.message is None:
            return blocker
        self._sender.event("execution_error", self._where(node_id) | describe_block(blocker.message))
        return ExecutionBlocker(None)

    def send(self, event: str, data: dict[str, Any]) -> None:
        """An event of a node's own, at once."""
        self._sender.event(event, data)
        self._sender.flush()

    def show_text(self, node_id: str, text: str) -> None:
        """A text below a node, at once."""
        self._sender.text(node_id, text)
        self._sender.flush()

    def flush(self) -> None:
        """Tell everything now."""
        self._progress.tell()
        self._sender.flush()

    def succeeded(self) -> dict[str, Any]:
        self._message("execution_success", {"prompt_id": self._prompt_id})
        return self._outcome("executed")

    def interrupted(self, node_id: str) -> dict[str, Any]:
        self._message("execution_interrupted", self._where(self._prompt.get_real_node_id(node_id)))
        return self._outcome("interrupted")

    def failed(self, failure: NodeFailed, tips: str) -> dict[str, Any]:
        where = self._where(self._prompt.get_real_node_id(failure.node_id))
        error = where | describe_failure(failure.cause, failure.values, tips)
        error["current_outputs"] = list(self._prompt.original_prompt)
        return self._outcome("errored", error=self._message("execution_error", error))

    def _where(self, node_id: str) -> dict[str, Any]:
        """How an error begins."""
        return {
            "prompt_id": self._prompt_id,
            "node_id": node_id,
            "node_type": self._prompt.get_node(node_id)["class_type"],
            "executed": list(self._executed),
        }

    def _message(self, event: str, data: dict[str, Any]) -> dict[str, Any]:
        """Send one of the status messages that history keeps."""
        data = data | {"timestamp": time.time_ns() // 1_000_000}
        self._messages.append((event, data))
        self._sender.event(event, data)
        return data

    def _outcome(self, kind: str, **more: Any) -> dict[str, Any]:
        """The fields of an Outcome, and its kind as "outcome"."""
        meta = {
            node_id: {
                "node_id": node_id,
                "display_node": self._prompt.get_display_node_id(node_id),
                "parent_node": self._prompt.get_parent_node_id(node_id),
                "real_node_id": self._prompt.get_real_node_id(node_id),
            }
            for node_id in self._outputs
        }
        return {
            "outcome": kind,
            "outputs": self._outputs,
            "meta": meta,
            "messages": self._messages,
            "timings": self._timings,
            **more,
        }
