"""One prompt in a ComfyUI, from its submission to its end.

Events come from the websocket; what happened while it was not heard is read from /queue and /history. The end
is always read from /history, so it is told once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from comfy_dist.engine.comfyui.binary_events import Picture, node_text, picture
from comfy_dist.engine.comfyui.outcomes import (
    ENDS,
    HistoryEntry,
    failed,
    interrupted,
    outcome_of,
    refused,
)
from comfy_dist.engine.comfyui.publishing import Publisher, Unpublished
from comfy_dist.engine.comfyui.server import Server, ServerFault, Submission, Unreachable, list_of
from comfy_dist.engine.comfyui.timings import Timings
from comfy_dist.engine.protocol import Emit, EngineEvent, NodeText, Outcome
from comfy_dist.messages import Job

_log = logging.getLogger(__name__)

#: Seconds of silence after which is looked whether the prompt still runs.
LOOK_SECONDS = 10.0
#: The same where its events may go elsewhere: of an earlier attempt's prompt, and after a lost connection.
DEAF_SECONDS = 1.0
#: The same once its end was told: the history has it a moment later.
END_SECONDS = 0.25
#: About a client's own connection, not a prompt.
_NOT_OURS = frozenset({"feature_flags", "logs"})


@dataclass(frozen=True, slots=True)
class _Event:
    name: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Look:
    """Read the state: something was missed (`gap`), or an interruption may have left nothing behind."""

    gap: bool = False


_Item: TypeAlias = _Event | Picture | NodeText | _Look


class Lost(Exception):
    """ComfyUI no longer knows the prompt; the text says what was seen."""


class Run:
    """A prompt that a ComfyUI executes for us."""

    def __init__(self, job: Job, *, server: Server, publisher: Publisher, emit: Emit) -> None:
        self.job = job
        #: Its prompt_id there: the job's, unless that is taken.
        self.id = job.id
        #: The node that was told to execute last, by display id.
        self.node: str | None = None
        self._server = server
        self._publisher = publisher
        self._emit = emit
        self._items: asyncio.Queue[_Item] = asyncio.Queue()
        self._timings = Timings()
        self._look_seconds = LOOK_SECONDS
        self._submitted = False
        self._stopping = False
        self._began = False
        self._ending = False
        self._missed = False
        #: Nodes seen executing: what they name now, they have just written.
        self._executed: set[str] = set()
        #: Nodes whose `executed` was handed on.
        self._told: set[str] = set()
        #: What nodes showed, as it came and with its files published.
        self._shown: dict[str, tuple[Any, dict[str, Any]]] = {}

    # What the websocket says, on the loop.

    def on_event(self, event: str, data: dict[str, Any]) -> None:
        prompt_id = data.get("prompt_id")
        if prompt_id == self.id:
            self._items.put_nowait(
                _Event(event, data if self.id == self.job.id else renamed(data, self.id, self.job.id))
            )
        elif prompt_id is None and event not in _NOT_OURS:
            self._items.put_nowait(_Event(event, data))

    def on_binary(self, body: bytes) -> None:
        found = picture(body)
        if found is not None and found.metadata.get("prompt_id", self.id) == self.id:
            self._items.put_nowait(found)
        elif (text := node_text(body)) is not None:
            self._items.put_nowait(text)

    def on_gap(self) -> None:
        self._items.put_nowait(_Look(gap=True))

    # What the engine wants.

    async def begin(self, submit: Callable[[], Awaitable[Submission]]) -> Outcome | None:
        """Submit it; the outcome where that was its end already."""
        if self._stopping:
            return interrupted(self.job)
        submission = await submit()
        wanted = set(self.job.outputs_to_execute)
        left_out = {
            str(output)
            for found in submission.node_errors.values()
            if isinstance(found, dict)
            for output in list_of(found.get("dependent_outputs"))
        }
        if submission.error is not None:
            return refused(self.job, submission.error, submission.node_errors)
        self._submitted = True
        if left_out & wanted:
            # An output that was promised is never left out in silence.
            await self._stop()
            return refused(self.job, None, submission.node_errors)
        if self._stopping:
            await self.interrupt()
        return None

    def adopt(self) -> None:
        """It was submitted by an earlier attempt; what it told until now was missed."""
        self._submitted = self._began = True
        self._items.put_nowait(_Look(gap=True))

    async def interrupt(self) -> None:
        """Stop it as soon as it can be; it may not be submitted yet. Raises nothing."""
        self._stopping = True
        if self._submitted:
            await self._stop()
            self._items.put_nowait(_Look())

    async def _stop(self) -> None:
        try:
            await self._server.stop(self.id)
        except ServerFault as fault:
            _log.warning("Prompt %s could not be interrupted: %s", self.job.id, fault)

    async def follow(self) -> Outcome:
        """Hand on its events until it has ended. Raises Lost, and ServerFault where its end is no end."""
        while True:
            outcome = await self._take(await self._next())
            if outcome is not None:
                return outcome

    async def _next(self) -> _Item:
        try:
            async with asyncio.timeout(END_SECONDS if self._ending else self._look_seconds):
                return await self._items.get()
        except TimeoutError:
            return _Look()

    async def _take(self, item: _Item) -> Outcome | None:
        match item:
            case Picture():
                self._emit(item.preview(self.job.id, self.node))
            case NodeText() if self._began and not self._ending:
                # It names no prompt and goes to everybody, but no other runs beside ours.
                self._emit(item)
            case _Event("execution_start"):
                self._relay(item)
                self._began = True
                if self._stopping:
                    # ComfyUI forgets an interruption that comes just before this.
                    await self._stop()
            case _Event("executing", {"node": None}):
                return await self._look()
            case _Event("executing", data):
                if "prompt_id" in data:
                    self._begin_node(data)
                    self._relay(item)
            case _Event("status"):
                return await self._look() if self._ending else None
            case _Event("executed", data):
                return await self._show(str(data.get("node")), data)
            case _Event(name, data):
                if name == "progress_state":
                    self._timings.see(data.get("nodes"))
                self._ending |= name in ENDS
                if self._began:
                    self._relay(item)
            case _Look(gap):
                if gap:
                    self._missed, self._look_seconds = True, DEAF_SECONDS
                return await self._look()
        return None

    def _relay(self, event: _Event) -> None:
        self._emit(EngineEvent(event.name, event.data))

    def _begin_node(self, data: dict[str, Any]) -> None:
        self._executed.add(str(data.get("node")))
        self.node = str(data.get("display_node") or data.get("node"))

    async def _show(self, node: str, data: dict[str, Any]) -> Outcome | None:
        """Hand on what a node shows, its files published."""
        output = data.get("output")
        if isinstance(output, dict):
            try:
                data = data | {"output": await self._published(node, output)}
            except Unpublished as error:
                await self._stop()
                return failed(self.job, str(error), type(error).__name__, node=node)
        self._told.add(node)
        self._relay(_Event("executed", data))
        return None

    async def _published(self, node: str, output: dict[str, Any]) -> dict[str, Any]:
        shown = self._shown.get(node)
        if shown is not None and shown[0] == output:
            return shown[1]
        published: dict[str, Any] = await self._publisher.rewrite(output, fresh=node in self._executed)
        self._shown[node] = (output, published)
        return published

    async def _look(self) -> Outcome | None:
        """The outcome where it has ended. Raises Lost where it neither waits nor runs nor has ended."""
        try:
            entry = await self._server.history(self.id)
            if entry is None:
                waits = await self._server.queued(self.id) is not None
                # It may have ended between the two questions.
                entry = None if waits else await self._server.history(self.id)
                if waits:
                    if self._stopping:
                        await self._stop()
                    return None
        except Unreachable:
            # Whether it comes back, the websocket's listener finds out.
            return None
        if entry is not None:
            return await self._end(HistoryEntry.of(renamed(entry, self.id, self.job.id)))
        if self._stopping:
            return interrupted(self.job)
        raise Lost("no longer knows the prompt (it was started anew, or its queue was cleared)")

    async def _end(self, entry: HistoryEntry) -> Outcome:
        outputs: dict[str, dict[str, Any]] = {}
        for node, output in entry.outputs.items():
            if output is None:
                continue
            try:
                outputs[node] = await self._published(node, output)
            except Unpublished as error:
                return failed(self.job, str(error), type(error).__name__, node=node)
        if self._missed:
            self._tell_missed(entry, outputs)
        return outcome_of(entry, self.job, outputs, self._timings.finish())

    def _tell_missed(self, entry: HistoryEntry, outputs: dict[str, dict[str, Any]]) -> None:
        """What nodes showed while nobody listened."""
        for node, output in outputs.items():
            if node not in self._told:
                meta = entry.meta.get(node) or {}
                data = {"node": node, "display_node": meta.get("display_node", node), "output": output}
                self._relay(_Event("executed", data | {"prompt_id": self.job.id}))


def renamed(value: Any, there: str, here: str) -> Any:
    """`value` with the prompt's id there replaced by its id here, wherever it stands alone."""
    if there == here:
        return value
    if isinstance(value, dict):
        return {key: renamed(each, there, here) for key, each in value.items()}
    if isinstance(value, list):
        return [renamed(each, there, here) for each in value]
    return here if value == there else value
