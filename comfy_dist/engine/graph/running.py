"""What runs in this process: the hook by which nodes report progress to the prompt they belong to."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from comfy_dist.engine.graph.interrupt import interrupt

if TYPE_CHECKING:
    from comfy_dist.engine.graph.progress import Preview

    Report: TypeAlias = Callable[[str, float, float, Preview | None], None]

#: The node whose code runs in this context; async nodes overlap, so it is no plain variable.
current_node: contextvars.ContextVar[str | None] = contextvars.ContextVar("current_node", default=None)

#: The node and call under way, by which GraphBuilder names the nodes of an expansion.
current_call: contextvars.ContextVar[tuple[str, int]] = contextvars.ContextVar("current_call", default=("", 0))

_graph_numbers: dict[tuple[str, int], int] = {}
_report: Report | None = None
#: For threads that a node started, which have no context of it.
_latest_node: str | None = None


def set_report(report: Report | None) -> None:
    """Where progress of the prompt that now runs goes; None when it has ended."""
    global _report, _latest_node
    _report = report
    _latest_node = None
    _graph_numbers.clear()


def enter_node(node_id: str) -> None:
    global _latest_node
    _latest_node = node_id
    current_node.set(node_id)


def report_progress(
    value: float, maximum: float, preview: Preview | None = None, node_id: str | None = None
) -> None:
    """Progress of a node, the one that calls if none is named. Raises when the prompt is interrupted."""
    interrupt.check()
    node = node_id or current_node.get() or _latest_node
    if _report is not None and node is not None:
        _report(node, value, maximum, preview)


def enter_call(node_id: str, index: int) -> None:
    """A call begins: the graphs it builds are numbered from 0."""
    current_call.set((node_id, index))
    _graph_numbers.pop((node_id, index), None)


def next_graph_number() -> int:
    """0, 1, … for each graph that one call builds."""
    call = current_call.get()
    _graph_numbers[call] = _graph_numbers.get(call, -1) + 1
    return _graph_numbers[call]
