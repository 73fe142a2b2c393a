"""What can go wrong in an execution, and it as the data of ComfyUI's execution_error. Pure.

Clients and nodes know some of these classes by ComfyUI's names for them, so they bear the modules of those.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfy_dist.errors import text_of

_OWN = str(Path(__file__).parent)

OUT_OF_MEMORY_TIPS = (
    "The device ran out of memory; what the cache held was freed. A smaller batch or picture, or fewer models "
    "at once, needs less."
)
#: Items of an input that an error shows.
_ITEMS_SHOWN = 100


class NodeFailed(Exception):
    """A node raised `cause`."""

    def __init__(self, node_id: str, cause: BaseException, values: Mapping[str, list[Any]] | None) -> None:
        super().__init__(node_id)
        self.node_id = node_id
        self.cause = cause
        self.values = values


class DependencyCycleError(Exception):
    """What is left to execute waits for itself."""

    __module__ = "graph"


class NodeInputError(Exception):
    """A node asks for an input, or is linked to an output, that is not there."""

    __module__ = "comfy_execution.graph"


class NodeNotFoundError(Exception):
    """A link names a node that is not there."""

    __module__ = "comfy_execution.graph"


class DuplicateNodeError(Exception):
    """An expansion adds a node id that is there already."""

    __module__ = "execution"


class ExpansionLimitError(Exception):
    """Nodes expand into more than any workflow needs: an expansion without end."""

    __module__ = "execution"


def is_out_of_memory(cause: BaseException) -> bool:
    """Whether a device ran out of memory, told by name as torch need not be there."""
    return "OutOfMemory" in type(cause).__name__


def type_name(error: BaseException) -> str:
    """The exception's class as ComfyUI writes it: with its module, but for built-in ones."""
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def describe_failure(
    error: BaseException, values: Mapping[str, list[Any]] | None, tips: str = ""
) -> dict[str, Any]:
    """exception_message, exception_type, traceback and current_inputs."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(_OWN)]
    return {
        "exception_message": f"{text_of(error)}\n{tips}",
        "exception_type": type_name(error),
        "traceback": traceback.format_list(theirs or frames),
        "current_inputs": {name: _shown(items) for name, items in (values or {}).items()},
    }


def describe_block(message: str) -> dict[str, Any]:
    """The same for a node that an ExecutionBlocker with a message stopped."""
    return {
        "exception_message": f"Execution Blocked: {message}",
        "exception_type": "ExecutionBlocked",
        "traceback": [],
        "current_inputs": [],
        "current_outputs": [],
    }


def _shown(items: list[Any]) -> list[Any]:
    """An input's values for a person: plain ones as they are, others as their text, not endlessly many."""
    shown = [
        item if item is None or isinstance(item, (int, float, bool)) else text_of(item)
        for item in items[:_ITEMS_SHOWN]
    ]
    if len(items) > _ITEMS_SHOWN:
        shown.append(f"… and {len(items) - _ITEMS_SHOWN} more")
    return shown
