"""What a link is, and the one value that stands for "do not run what comes after"."""

from __future__ import annotations

from typing import Any


def is_link(value: Any) -> bool:
    """Whether an input's value names another node's output: [node id, slot]."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], (int, float))
    )


class ExecutionBlocker:
    """Returned in place of an output: nodes that receive it do not run.

    With a message the first of them reports an error, without one they end silently.
    """

    def __init__(self, message: str | None) -> None:
        self.message = message
