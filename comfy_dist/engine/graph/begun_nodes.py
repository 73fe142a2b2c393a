"""Nodes that have begun: the calls of async ones go on while other nodes are executed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from comfy_dist.engine.graph.failures import NodeFailed
from comfy_dist.engine.graph.inputs import InputLists
from comfy_dist.engine.graph.interrupt import InterruptProcessingException, interrupt

_ABANDON_SECONDS = 5.0


@dataclass(slots=True)
class Begun:
    """A node's calls."""

    values: InputLists
    #: time.perf_counter()
    started: float
    #: What each call returned, as far as they have begun; a task where it is async.
    results: list[Any] = field(default_factory=list)

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        return [each for each in self.results if isinstance(each, asyncio.Task)]

    @property
    def pending(self) -> list[asyncio.Task[Any]]:
        return [task for task in self.tasks if not task.done()]

    @property
    def ended(self) -> bool:
        """Whether all are done, or one has failed."""
        return not self.pending or any(
            task.done() and not task.cancelled() and task.exception() for task in self.tasks
        )


class BegunNodes:
    """Those of one prompt, each until its results have been read.

    Should one of a node's calls fail, its others are still here, and end with the prompt.
    """

    def __init__(self) -> None:
        self._begun: dict[str, Begun] = {}
        self._wake = asyncio.Event()

    def __bool__(self) -> bool:
        return bool(self._begun)

    def __iter__(self) -> Iterator[str]:
        return iter(self._begun)

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._begun

    def add(self, node_id: str, begun: Begun) -> None:
        self._begun[node_id] = begun

    def __getitem__(self, node_id: str) -> Begun:
        return self._begun[node_id]

    def remove(self, node_id: str) -> None:
        del self._begun[node_id]

    def wake(self) -> None:
        """Look at the interrupt flag now. Call on the loop."""
        self._wake.set()

    async def wait(self) -> list[str]:
        """The nodes whose calls have ended, one at least. Raises NodeFailed for an interrupt."""
        self._wake.clear()
        if not interrupt.requested:
            woken = asyncio.ensure_future(self._wake.wait())
            pending = [task for begun in self._begun.values() for task in begun.pending]
            try:
                await asyncio.wait([woken, *pending], return_when=asyncio.FIRST_COMPLETED)
            finally:
                woken.cancel()
        try:
            interrupt.check()
        except InterruptProcessingException as error:
            node_id, begun = next(iter(self._begun.items()))
            raise NodeFailed(node_id, error, begun.values) from error
        return [node_id for node_id, begun in self._begun.items() if begun.ended]

    async def abandon(self) -> None:
        """End what still runs after a failure; a node that ignores it is waited for no longer than this."""
        pending = [task for begun in self._begun.values() for task in begun.pending]
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending, timeout=_ABANDON_SECONDS)
        for task in [task for begun in self._begun.values() for task in begun.tasks]:
            if task.done() and not task.cancelled():
                # The prompt has told of one failure; asyncio need not tell of the others.
                task.exception()
