"""`comfy_execution.utils`: which node's code runs."""

from __future__ import annotations

from typing import NamedTuple

from comfy_dist.engine.graph import running


class ExecutionContext(NamedTuple):
    """A node's call: of its prompt, and by the index of its item where inputs are lists."""

    prompt_id: str
    node_id: str
    list_index: int | None


def get_executing_context() -> ExecutionContext | None:
    """The call whose code asks; None outside of one, also in threads without its context."""
    prompt, node_id = running.running_prompt(), running.current_node.get()
    if prompt is None or node_id is None:
        return None
    called, index = running.current_call.get()
    return ExecutionContext(prompt.id, node_id, index if called == node_id else None)
