"""The worker that started this process, as nodes ask it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from comfy_dist.calls.errors import Stopped

if TYPE_CHECKING:
    from comfy_dist.calls.here import Here


def worker() -> Here | None:
    """The way to it; None in a process that no worker started."""
    # Not at the top: an engine starts faster without the client and the server of what it may never ask.
    from comfy_dist.calls.here import here

    return here()


@contextmanager
def interrupting() -> Iterator[None]:
    """An interrupt that reaches a waiting node by its worker, told as ComfyUI wants it told."""
    try:
        yield
    except Stopped as error:
        raise importlib.import_module("comfy.model_management").InterruptProcessingException() from error
