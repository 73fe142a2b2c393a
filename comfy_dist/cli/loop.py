"""The event loop of the services."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from comfy_dist.errors import ComfyDistError


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a service to its end, on uvloop where there is one: a prompt's way through it takes half the time.

    Services own their tasks in groups; of a group's errors the one that is a sentence is raised.
    """
    try:
        import uvloop
    except ImportError:  # Windows
        runner = asyncio.Runner()
    else:
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    try:
        with runner:
            runner.run(main)
    except BaseExceptionGroup as group:
        sentences, rest = group.split(ComfyDistError)
        if sentences is None or rest is not None:
            raise
        raise _first(sentences) from None


def _first(group: BaseExceptionGroup[ComfyDistError]) -> ComfyDistError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
