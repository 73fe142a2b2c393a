"""Campaigns: executions of a Legion workflow, begun by a Master and waited for by it or by a Join.

Coroutines are awaited on the link's loop (`here.thread`), as everything that waits for a worker.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comfy_dist.calls.handoff import Handoff
from comfy_dist.calls.here import Here
from comfy_dist.calls.legion_configuration import Configuration, UnusableConfiguration
from comfy_dist.calls.legion_prompts import bridged, by_channel, check, imported
from comfy_dist.calls.links import Link
from comfy_dist.calls.running_job import RunningJob
from comfy_dist.calls.sent_workflows import Prompt, Workflow, shown_by
from comfy_dist.calls.workflow_calls import on_any, on_worker
from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import Peer
from comfy_dist.tensors.errors import CannotTravel

log = logging.getLogger(__name__)


class NothingToJoin(ComfyDistError):
    """A campaign that has no outputs and will have none."""


@dataclass(frozen=True, slots=True)
class Done:
    """What the Exporter was given by channel, the items of each as a list, and what output nodes showed."""

    outputs: Mapping[int, list[Any]]
    shown: Mapping[str, list[Any]]


@dataclass(frozen=True, slots=True)
class InPlace:
    """No other worker is free: whoever wants the outputs executes the workflow itself."""

    prompt: Prompt
    targets: Sequence[str]


class Campaign:
    """One execution, begun at most once for each prompt: it keeps its outputs, and without them is tried again."""

    def __init__(self, configuration: Configuration, inputs: Mapping[int, Any] | None) -> None:
        """`inputs`: by channel; None: one that nothing is executed in."""
        self.id = uuid.uuid4().hex
        self.configuration = configuration
        self._inputs = inputs
        self._done: Done | None = None
        self._to_show: dict[str, list[Any]] = {}
        self._running: asyncio.Task[Done | InPlace] | None = None
        #: The attempt at a job that it runs in.
        self._of: tuple[str, int] | None = None
        self._joined = False
        #: By channel, where a node of the prompt executes it already.
        self.links: Mapping[int, Link] | None = None
        _campaigns[self.id] = self

    @property
    def is_executed(self) -> bool:
        return self._inputs is not None

    def take_shown(self) -> dict[str, list[Any]]:
        """What its output nodes showed, for the first node that asks: once is enough."""
        shown, self._to_show = self._to_show, {}
        return shown

    def settle(self, outputs: Mapping[int, list[Any]]) -> None:
        """It was executed in place."""
        self._done = Done(outputs, {})

    async def begin(self, here: Here, node: str) -> None:
        """Execute it for the job at hand, unless that is done; `node` as clients know it."""
        job = await here.job()
        if self._done is not None or self._of == (job.id, job.attempt):
            return
        self._of, self._joined, self.links = (job.id, job.attempt), False, None
        running = self._running = asyncio.create_task(self._run(here, job, node), name="Legion campaign")
        job.at_end(running, lambda: self._end(running))

    async def outcome(self, here: Here, node: str) -> Done | InPlace:
        """Wait for it, as often as one likes. Raises whatever it failed with; Stopped."""
        if self._inputs is None:
            raise NothingToJoin(
                "This campaign has only warmed up, so it has no outputs; give it to a Legion Master first."
            )
        await self.begin(here, node)
        if self._done is not None:
            return self._done
        assert self._running is not None
        self._joined = True
        job = await here.job()
        found = await job.wait(_result(self._running))
        return self._done or found

    async def _run(self, here: Here, job: RunningJob, node: str) -> Done | InPlace:
        assert self._inputs is not None
        found = await _execute(here, job, self.configuration, self._inputs, node)
        if isinstance(found, Done):
            # Whether or not somebody waits for it now.
            self._done, self._to_show = found, dict(found.shown)
            self._inputs = {}
        return found

    def _end(self, running: asyncio.Task[Done | InPlace]) -> None:
        """The job is over."""
        if not running.done():
            running.cancel()
            if not self._joined:
                log.info("A Legion campaign that nothing has joined is ended with its prompt.")
        elif not running.cancelled() and running.exception() is not None and not self._joined:
            log.warning("A Legion campaign that nothing has joined failed: %s", running.exception())


_campaigns: weakref.WeakValueDictionary[str, Campaign] = weakref.WeakValueDictionary()


def settle(campaign: str, handed: Mapping[str, list[Any]]) -> None:
    """The campaign of that id was executed in place, and its Exporter given this."""
    if (found := _campaigns.get(campaign)) is not None:
        found.settle(by_channel(handed))


async def warm_up(here: Here, configuration: Configuration) -> None:
    """Start the process that it asks for. Raises LinkRefused with what is wrong with it."""
    job = await here.job()
    await job.wait(_started(here, configuration))


async def dry_run(here: Here, configuration: Configuration, inputs: Mapping[int, Any]) -> None:
    """Look whether it could be executed: its process allowed, its workflow there, its inputs fit to be sent.

    Raises ComfyDistError with what is wrong.
    """
    job = await here.job()
    if _is_local(configuration):
        await here.ask("legion_check", process=configuration.process.model_dump())
    found = await _workflow(here, configuration, None)
    title = _title(configuration)
    check(found["prompt"], sorted(inputs), title)
    handoff = Handoff(here, _owner(job), _named(inputs))
    try:
        await _opened(handoff)
    finally:
        handoff.close()


async def _result(running: asyncio.Task[Done | InPlace]) -> Done | InPlace:
    return await asyncio.shield(running)


async def _execute(
    here: Here, job: RunningJob, configuration: Configuration, inputs: Mapping[int, Any], node: str
) -> Done | InPlace:
    key = await _started(here, configuration)
    title = _title(configuration)
    found = await _workflow(here, configuration, key)
    check(found["prompt"], sorted(inputs), title)
    given = _named({channel: inputs.get(channel) for channel in imported(found["prompt"])})
    handoff = Handoff(here, _owner(job), given)
    try:
        peer, contents = await _opened(handoff)
        received = {channel: contents[name] for channel, name in _names(given)}
        prompt, targets = bridged(found["prompt"], found["targets"], received)
        workflow = Workflow(title=title, prompt=prompt, targets=targets, node=node, handoff=peer)
        if key is not None:
            results = [await on_worker(here, job, workflow, key)]
        elif (anybody := await on_any(here, job, workflow)) is None:
            for name, content in contents.items():
                here.inbox.put(job.id, content, here.plane.pack([given[name]], job.id))
            return InPlace(prompt, targets)
        else:
            results = anybody
        if not (handed := handoff.handed()):
            raise ComfyDistError(f"{title} has ended without giving anything back: its Exporter was not executed.")
        return Done(by_channel(handed), shown_by(results))
    finally:
        handoff.close()


async def _opened(handoff: Handoff) -> tuple[Peer, dict[str, str]]:
    try:
        return await handoff.open()
    except CannotTravel as error:
        raise CannotTravel(f"An input of the Legion Master cannot be sent to its workflow: {error}") from None


async def _started(here: Here, configuration: Configuration) -> str | None:
    """What calls for its process are sent to; None: it is for the cluster."""
    if not _is_local(configuration):
        return None
    process = configuration.process.model_dump()
    answer = await here.ask("legion_start", timeout=None, process=process)
    return str(answer["target"])


async def _workflow(here: Here, configuration: Configuration, target: str | None) -> dict[str, Any]:
    if not configuration.workflow:
        raise UnusableConfiguration("The Legion configuration names no workflow; say “workflow: name.json” in it.")
    found: dict[str, Any] = await here.ask("legion_workflow", workflow=configuration.workflow, target=target)
    return found


def _is_local(configuration: Configuration) -> bool:
    return configuration.comfyui.type == "local_process"


def _title(configuration: Configuration) -> str:
    return f"The Legion workflow {configuration.workflow}"


def _owner(job: RunningJob) -> str:
    return f"{job.id} gives {uuid.uuid4().hex}"


def _named(inputs: Mapping[int, Any]) -> dict[str, Any]:
    return {f"input_{channel}": value for channel, value in inputs.items()}


def _names(given: Mapping[str, Any]) -> list[tuple[int, str]]:
    return [(int(name.removeprefix("input_")), name) for name in given]
