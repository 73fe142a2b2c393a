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

    def joined(self, other: Requirements) -> Requirements:
        """What both ask for; of two workers' names the other's."""
        return Requirements(
            worker=other.worker or self.worker,
            tags=tuple(sorted({*self.tags, *other.tags})),
            vram=max(self.vram, other.vram),
            nodes=tuple(sorted({*self.nodes, *other.nodes})),
            choices=tuple(sorted({*self.choices, *other.choices})),
        )


#: What asks for nothing.
ANYBODY = Requirements()
