"""What runs in this process: the prompt, and the node whose code asks."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from comfy_dist.engine.graph.interrupt import interrupt

if TYPE_CHECKING:
    from comfy_dist.engine.graph.dynamic_prompt import DynamicPrompt
    from comfy_dist.engine.graph.progress import Preview

    Report: TypeAlias = Callable[[str, float, float, Preview | None], None]


@dataclass(frozen=True, slots=True)
class RunningPrompt:
    """What nodes may ask of the prompt they belong to."""

    id: str
    prompt: DynamicPrompt
    extra_data: Mapping[str, Any]
    #: (node id, value, maximum, preview): progress of a node.
    report: Report
    #: (event, data) to the client that sent the prompt, at once.
    send: Callable[[str, dict[str, Any]], None]
    #: (node id, text) to show below the node.
    show_text: Callable[[str, str], None]


#: The node whose code runs in this context; async nodes overlap, so it is no plain variable.
current_node: contextvars.ContextVar[str | None] = contextvars.ContextVar("current_node", default=None)

#: The node and call under way, by which GraphBuilder names the nodes of an expansion.
current_call: contextvars.ContextVar[tuple[str, int]] = contextvars.ContextVar("current_call", default=("", 0))

_graph_numbers: dict[tuple[str, int], int] = {}
_running: RunningPrompt | None = None
#: For threads that a node started, which have no context of it.
_latest_node: str | None = None


def set_running(prompt: RunningPrompt | None) -> None:
    """The prompt that now runs; None when it has ended."""
    global _running, _latest_node
    _running = prompt
    _latest_node = None
    _graph_numbers.clear()


def running_prompt() -> RunningPrompt | None:
    return _running


def latest_node() -> str | None:
    """The node that calls; for threads without its context, the one begun last."""
    return current_node.get() or _latest_node


def enter_node(node_id: str) -> None:
    global _latest_node
    _latest_node = node_id
    current_node.set(node_id)


def report_progress(
    value: float, maximum: float, preview: Preview | None = None, node_id: str | None = None
) -> None:
    """Progress of a node, the one that calls if none is named. Raises when the prompt is interrupted."""
    interrupt.check()
    node = node_id or latest_node()
    if _running is not None and node is not None:
        _running.report(node, value, maximum, preview)


def show_text(node_id: str, text: str) -> None:
    """A text below a node, for the client of the prompt that runs."""
    if _running is not None:
        _running.show_text(node_id, text)


def enter_call(node_id: str, index: int) -> None:
    """A call begins: the graphs it builds are numbered from 0."""
    current_call.set((node_id, index))
    _graph_numbers.pop((node_id, index), None)


def next_graph_number() -> int:
    """0, 1, … for each graph that one call builds."""
    call = current_call.get()
    _graph_numbers[call] = _graph_numbers.get(call, -1) + 1
    return _graph_numbers[call]
