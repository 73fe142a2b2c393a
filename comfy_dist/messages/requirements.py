"""What a job asks of the worker that executes it."""

from __future__ import annotations

from comfy_dist.messages.base import Message


class Requirements(Message):
    """A worker meets them when it meets each; the default asks for nothing."""

    #: Name of the one worker that is meant.
    worker: str | None = None
    #: All of these are among its --worker-tags.
    tags: tuple[str, ...] = ()
    #: Bytes of memory that its device has at least.
    vram: int = 0
    #: Node classes that it has.
    nodes: tuple[str, ...] = ()
    #: (class, input, value): choices, such as model files, that the input offers there.
    choices: tuple[tuple[str, str, str], ...] = ()
