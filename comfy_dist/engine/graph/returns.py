"""What a node returned, read by ComfyUI's contract: a tuple, {"ui", "result", "expand"}, or a blocker. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from comfy_dist.engine.graph.links import ExecutionBlocker


@dataclass(slots=True)
class Returned:
    """One call's return value, taken apart."""

    #: The outputs, or None where it gave none at all (only `ui`).
    result: tuple[Any, ...] | None
    ui: dict[str, Any] = field(default_factory=dict)
    #: Nodes to execute in its place; `result` may hold links into them.
    expand: dict[str, Any] | None = None


def read_return(value: Any, outputs: int) -> Returned:
    """Take apart what a node with `outputs` outputs returned. Raises TypeError with a sentence."""
    if isinstance(value, dict):
        given = value.get("result")
        ui = value.get("ui")
        if ui is not None and not isinstance(ui, dict):
            raise TypeError(f"The node's ui is of type {type(ui).__name__}; it must be a dict of lists.")
        return Returned(
            result=_outputs(given, outputs) if given is not None else None,
            ui=ui or {},
            expand=value.get("expand"),
        )
    return Returned(result=_outputs(value, outputs))


def _outputs(value: Any, outputs: int) -> tuple[Any, ...]:
    if isinstance(value, ExecutionBlocker):
        return (value,) * outputs
    if isinstance(value, (tuple, list)):
        return tuple(value)
    if value is None and not outputs:
        return ()
    raise TypeError(
        f"The node returned {'nothing' if value is None else 'a value of type ' + type(value).__name__}; "
        f"it must return a tuple of its {outputs} output{'' if outputs == 1 else 's'}."
    )
