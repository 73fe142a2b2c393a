"""Whole workflows executed by other workers: calls that are sent, and what becomes of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from comfy_dist.calls.here import Here
from comfy_dist.calls.participants import engines_of
from comfy_dist.calls.running_job import RunningJob
from comfy_dist.calls.sent_workflows import (
    CallsBack,
    Result,
    Workflow,
    gives_way,
    listeners,
    refuse_all_others,
    tuned_to,
)
from comfy_dist.errors import ComfyDistError
from comfy_dist.tensors.content import content_of

#: Seconds in which a worker that is free begins. After that the node does it itself.
BEGIN_SECONDS = 3.0
#: Seconds between two looks at workers that have not begun, or have gone.
LOOK_SECONDS = 1.0
#: Seconds without a sign of a worker after which it does not come back.
GONE_SECONDS = 30.0
#: Seconds in which this worker hears as well that the whole prompt was interrupted.
INTERRUPTED_SECONDS = 5.0


#: States of calls that someone has.
_TAKEN = frozenset({"queued", "started"})


class WorkflowFailed(ComfyDistError):
    """A workflow that another worker has executed in vain: the sentence names the worker and the node there."""


async def on_all_others(here: Here, job: RunningJob, workflow: Workflow) -> list[Result]:
    """What each other live worker that can execute the workflow has made of it, by the workers' names.

    Raises WorkflowFailed as soon as one has failed, CallsBack, LinkLost, LinkRefused.
    """
    if job.call is not None:
        refuse_all_others(workflow.title)
    able, own = await _able(here, workflow)
    names = sorted(worker["name"] for worker in able if worker["id"] != own)
    if not names:
        return []
    called = _Called(here, workflow)
    try:
        await called.send(job, names)
        await called.until_ended(own)
    finally:
        called.unfollow()
    return called.results()


async def on_any(here: Here, job: RunningJob, workflow: Workflow) -> list[Result] | None:
    """The same of the one worker that took it; None: nobody is free, so whoever asks is to execute it itself.

    A node never waits for a worker that may be waiting for this one.
    """
    able, own = await _able(here, workflow)
    able.sort(key=lambda worker: worker["state"] != "idle")
    free = any(worker["state"] == "idle" for worker in able)
    alone = any(worker["id"] == own for worker in able)
    if alone and not free:
        return None
    # Where only some may take part, the first of them is meant: a call names one worker, or anybody.
    target = str(able[0]["name"]) if able and job.spread.workers is not None else None
    called = _Called(here, workflow)
    try:
        await called.send(job, [target])
        if alone and not await called.has_begun():
            await here.ask("void", calls=called.ids)
            # Somebody may have begun meanwhile, and was not called off then.
            if not called.begun:
                return None
        await called.until_ended(own)
    finally:
        called.unfollow()
    return called.results()


async def on_worker(here: Here, job: RunningJob, workflow: Workflow, target: str) -> Result:
    """What the worker of that name has made of it: one that is busy begins when it is free.

    Raises WorkflowFailed, CallsBack, LinkLost, LinkRefused: also where no live worker of that name can execute it.
    """
    if job.call is not None:
        await _refuse_who_waits(here, job.call, workflow, target)
    own = (await here.ask("hello"))["worker"]
    called = _Called(here, workflow)
    try:
        await called.send(job, [target])
        await called.until_ended(own)
    finally:
        called.unfollow()
    if not (results := called.results()):
        raise WorkflowFailed(f"{workflow.title} was not begun by worker {target}, which is gone.")
    return results[0]


async def _able(here: Here, workflow: Workflow) -> tuple[list[Mapping[str, Any]], str]:
    """The live workers that can execute it, and the id of this one."""
    hello = await here.ask("hello")
    peers = await here.ask("peers", prompt=workflow.prompt)
    return peers["workers"], hello["worker"]


async def _refuse_who_waits(here: Here, call: Mapping[str, Any], workflow: Workflow, target: str) -> None:
    """Raises CallsBack where the worker of that name waits for this call, with the only engine that it has."""
    for worker in (await here.ask("peers"))["workers"]:
        if worker["name"] == target and worker["id"] in (call["worker"], call["home"]) and engines_of(worker) == 1:
            raise CallsBack(workflow.title, f"worker {target}", "Name another one.")


class _Called:
    """Calls of one workflow. On the link's loop."""

    def __init__(self, here: Here, workflow: Workflow) -> None:
        self._here = here
        self._workflow = workflow
        self.ids: list[str] = []
        #: What the worker said last of each call, and the names that these are meant for (None: anybody's).
        self._heard: dict[str, dict[str, Any]] = {}
        self._targets: dict[str, str | None] = {}
        self._left_out: set[str] = set()
        #: What was told last of whom this node waits for.
        self._waits: list[str] = []
        self._news = asyncio.Event()

    async def send(self, job: RunningJob, targets: Sequence[str | None]) -> None:
        workflow = self._workflow
        if listeners(workflow.prompt):
            # By its content, so that two nodes of one job never hear each other's.
            channel = f"image {await asyncio.to_thread(content_of, workflow.image)}"
            packed = self._here.plane.pack([workflow.image], job.id)
            await self._here.ask("publish", channel=channel, value=packed)
            workflow = replace(workflow, prompt=tuned_to(channel, workflow.prompt))
        each = [{"target": target, "rank": rank} for rank, target in enumerate(targets)]
        self.ids = await self._here.send(workflow.call(len(targets)), each, self._hear)
        self._targets = dict(zip(self.ids, targets, strict=True))

    def unfollow(self) -> None:
        self._here.unfollow(self.ids)

    async def has_begun(self) -> bool:
        """Whether somebody executes the one call soon, or has."""
        while not self.begun:
            if not await self._told_within(BEGIN_SECONDS):
                return False
        return True

    @property
    def begun(self) -> bool:
        """Whether somebody executes the one call, or has."""
        return self._state(self.ids[0]) in ("started", "ended")

    async def until_ended(self, own: str) -> None:
        """`own`: id of this worker."""
        seen = dict.fromkeys(self.ids, time.monotonic())
        while True:
            waiting = [each for each in self.ids if self._state(each) != "ended" and each not in self._left_out]
            if any(self._heard.get(each, {}).get("status") == "cancelled" for each in self.ids):
                # Most likely as the whole prompt is interrupted: this node is stopped then, and has not failed.
                await asyncio.sleep(INTERRUPTED_SECONDS)
            for each in self.ids:
                self._refuse_failure(each)
            if self._waits:
                await self._tell_waits(waiting)
            if not waiting:
                return
            if await self._told_within(LOOK_SECONDS):
                continue
            workers = (await self._here.ask("peers"))["workers"]
            await self._tell_waits(waiting)
            await self._give_way_in_a_circle(own, workers)
            live = {worker["name"] for worker in workers}
            for each in waiting:
                target = self._targets[each]
                there = target is None or target in live or self._state(each) in _TAKEN
                if there:
                    seen[each] = time.monotonic()
                elif time.monotonic() - seen[each] > GONE_SECONDS:
                    await self._give_up(each)

    async def _tell_waits(self, waiting: Sequence[str]) -> None:
        """For whom this node waits to begin, where that is news."""
        targets = {self._targets[each] for each in waiting if self._state(each) not in _TAKEN}
        waits = sorted(target for target in targets if target is not None)
        if waits != self._waits:
            self._waits = waits
            await self._here.ask("waits", node=self._workflow.node, workers=waits)

    async def _give_way_in_a_circle(self, own: str, workers: Sequence[Mapping[str, Any]]) -> None:
        """Of workers that wait for each other to begin one gives its job back; it comes again when others have
        ended. Never returns then."""
        name = next((worker["name"] for worker in workers if worker["id"] == own), "")
        if gives_way(name, {worker["name"]: worker["waits_for"] for worker in workers}):
            await self._here.ask("give_way")
            await asyncio.Event().wait()

    def results(self) -> list[Result]:
        ended = [self._heard[each] for each in self.ids if each not in self._left_out]
        return [{"worker": message["worker"], "outputs": message["outputs"]} for message in ended]

    async def _give_up(self, call: str) -> None:
        """The only worker that may execute it is gone: one that had not begun is none of the live workers."""
        if self._state(call) == "gone":
            raise WorkflowFailed(
                f"{self._workflow.title} was not finished by worker {self._targets[call]}, which is gone."
            )
        await self._here.ask("void", calls=[call])
        self._left_out.add(call)

    def _refuse_failure(self, call: str) -> None:
        message = self._heard.get(call, {})
        if message.get("state") != "ended" or message.get("status") == "finished":
            return
        worker, error = message["worker"], message.get("error") or {}
        if message.get("status") == "cancelled":
            raise WorkflowFailed(f"{self._workflow.title} was cancelled on worker {worker}.")
        node, reason = error.get("node_id"), str(error.get("exception_message") or "it failed").strip()
        at = f" at node {node} ({error.get('node_type')})" if node is not None else ""
        raise WorkflowFailed(f"{self._workflow.title} failed on worker {worker}{at}: {reason}")

    def _state(self, call: str) -> str | None:
        """queued (of what this worker executes beside its own jobs), started, gone (it will be executed again),
        ended; None: nobody has begun."""
        return self._heard.get(call, {}).get("state")

    def _hear(self, message: dict[str, Any]) -> None:
        # The first end counts; another attempt may have begun before it was told.
        if self._state(message["call"]) != "ended":
            self._heard[message["call"]] = message
            self._news.set()

    async def _told_within(self, seconds: float) -> bool:
        """Whether something is told in that time, or was since somebody last waited."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True
