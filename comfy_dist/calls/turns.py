"""Who hands out the chunks of the regions under way in this process, to the nodes that execute them."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from comfy_dist.calls.here import Here
from comfy_dist.calls.layout import Layout
from comfy_dist.calls.links import Link, Node
from comfy_dist.calls.offered import Values
from comfy_dist.calls.running_job import RunningJob

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Expansion:
    """What a node expands into, and the output with the first closing node's results; the others' follow it."""

    graph: dict[str, Node]
    first: Link


class Turn(Protocol):
    """A parent or a rank."""

    layout: Layout

    async def next(self, done: int, results: Mapping[str, Values]) -> Expansion | None:
        """What to execute next, a chunk having given `results`. None: nothing."""

    def next_now(self, done: int, results: Mapping[str, Values]) -> Expansion | None:
        """The same on the thread of whoever asks, where nothing need be waited for. None: ask `next`."""

    def outputs(self) -> list[Values]:
        """For each closing node what it is to close with, once `next` has given None."""

    async def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives, on the loop that the turn lives on. Raises Stopped."""


async def wait_for(here: Here | None, job: RunningJob | None, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; where there is a worker, on the link's loop, until the job is over. Raises Stopped."""
    if here is None:
        return await work
    return await here.thread.run(work if job is None else job.wait(work))


#: By the word that their steps know them by.
turns: dict[str, Turn] = {}
