"""What this process has of the cluster: its link to the worker, its tensor plane, and the regions under way in it.

Everything starts when a node first asks; a process that no worker started has nothing of it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from comfy_dist.calls import running_job
from comfy_dist.calls.errors import LinkLost, LinkRefused, Stopped
from comfy_dist.calls.inbox import Inbox, NotSent
from comfy_dist.calls.link import ADDRESS_VARIABLE, ANSWER_SECONDS, Link
from comfy_dist.calls.running_job import RunningJob
from comfy_dist.calls.speeds import Speeds
from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import Peer
from comfy_dist.tensors.errors import NotPulled
from comfy_dist.tensors.loop_thread import LoopThread
from comfy_dist.tensors.packing import at_hand
from comfy_dist.tensors.plane import Plane

log = logging.getLogger(__name__)
T = TypeVar("T")

#: What the worker says of a call that was sent (worker/desk.py): {"call", "state", "attempt", "worker", …}.
Heard = Callable[[dict[str, Any]], None]


class Here:
    """One per process. Its coroutines run on `thread`; nodes await them with `await here.thread.run(…)`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.thread = LoopThread("calls")
        self.link = Link.of(environment, self)
        self.inbox = Inbox()
        self.speeds = Speeds()
        #: Name and id of the worker, once `job` was asked for.
        self.worker = self.worker_id = ""
        self._plane: Plane | None = None
        self._starting = asyncio.Lock()
        self._job: RunningJob | None = None
        #: Id and attempt of what was stopped last, perhaps before anybody here had asked for it.
        self._stopped: tuple[str, int] | None = None
        #: Values that will be received soon, by content.
        self._coming: dict[str, asyncio.Task[Any]] = {}
        self._heard: dict[str, Heard] = {}
        #: Of calls whose ids the worker has yet to tell.
        self._early: list[dict[str, Any]] = []
        self._sending = 0
        self._telling: set[asyncio.Task[None]] = set()

    @property
    def plane(self) -> Plane:
        """There once `job` was asked for."""
        assert self._plane is not None
        return self._plane

    async def job(self) -> RunningJob:
        """The attempt that this process executes now. Raises LinkLost, or LinkRefused where there is none."""
        # What happens to it is pushed to who is connected: then all is known that the worker would answer.
        linked = self.link is not None and self.link.connected and self._plane is not None
        told = running_job.told if linked else None
        await self._start()
        found = told or await self.ask("job")
        job = self._job
        if job is None or (job.id, job.attempt) != (found["id"], found["attempt"]):
            if job is not None:
                job.end()
            job = self._running(found)
        if found.get("over") or self._stopped == (job.id, job.attempt):
            job.end()
        return job

    def job_now(self) -> RunningJob | None:
        """The same where the worker need not be asked and nothing is over; None: ask. Any thread."""
        told, before = running_job.told, self._job
        if told is None or self.link is None or not self.link.connected or self._plane is None:
            return None
        attempt = told["id"], told["attempt"]
        if before is not None and not before.over:
            # Its end is on its way, where it is another one.
            return before if (before.id, before.attempt) == attempt else None
        if self._stopped == attempt or (before is not None and (before.id, before.attempt) == attempt):
            return None
        job = self._running(told)
        if self._stopped == attempt:
            # In the same moment.
            self.thread.loop.call_soon_threadsafe(job.end)
        return job

    def _running(self, found: Mapping[str, Any]) -> RunningJob:
        job = RunningJob(found["id"], found["attempt"], found["call"], found.get("spread"))
        job.at_end(self, functools.partial(self._forget, job.id))
        self._job = job
        return job

    async def receive(self, content: str) -> Any:
        """The value of that content, which the call at hand was sent. Raises NotPulled, NotSent,
        NotAnswered, Stopped."""
        job = self._job
        if job is None or job.over or content not in self.inbox:
            job = await self.job()
        if (coming := self._coming.pop(content, None)) is not None:
            try:
                return await job.wait(_of(coming))
            except Exception as error:
                if job.over:
                    raise
                # There may have been no memory for it beside the chunk before, say.
                log.debug("It is tried once more: %s", error)
        if content not in self.inbox:
            await job.wait(self._take(job, content))
        return await job.wait(self.plane.unpack(self.inbox.packed(content)))

    def at_hand(self, content: str) -> tuple[Any] | None:
        """The same where nothing need be waited for: it was brought, or written out. Any thread."""
        job = self._job
        if job is None or job.over:
            return None
        coming = self._coming.get(content)
        if coming is not None and coming.done() and not coming.cancelled() and coming.exception() is None:
            self._coming.pop(content, None)
            return (coming.result(),)
        try:
            found = at_hand(self.inbox.packed(content))
            return None if found is None else (found,)
        except (NotSent, NotPulled):
            # Said as whoever receives it would be told.
            return None

    async def bring(self, contents: Iterable[str]) -> None:
        """Pull these values, which are in the inbox, to have them at hand when they are received; what cannot be
        pulled is tried again then. They take the place of those that were brought before and not received."""
        self._leave()
        for content in dict.fromkeys(contents):
            self._coming[content] = asyncio.create_task(self.plane.unpack(self.inbox.packed(content)))
        await asyncio.gather(*tuple(self._coming.values()), return_exceptions=True)

    def why_over(self) -> ComfyDistError:
        """What a node is told that belongs to what is over."""
        job = self._job
        return (job.why_over if job is not None else None) or Stopped("What this node belongs to is over.")

    async def ask(self, op: str, *, timeout: float | None = ANSWER_SECONDS, **arguments: Any) -> Any:
        """What the worker answers. Raises LinkRefused with its sentence, or LinkLost."""
        if self.link is None:
            raise LinkLost("No worker of a cluster has started this process, so it has nobody to ask.")
        return await self.link.ask(op, timeout=timeout, **arguments)

    def tell(self, op: str, **arguments: Any) -> None:
        """Tell the worker what nobody waits for; where it cannot be told nothing is lost."""
        task = asyncio.create_task(self._tell(op, arguments))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def send(self, call: Mapping[str, Any], each: Sequence[Mapping[str, Any]], heard: Heard) -> list[str]:
        """Send the call several times, with what differs in `each`: their ids. What becomes of them is told to
        `heard`, until `unfollow`. Raises LinkLost, LinkRefused."""
        self._sending += 1
        try:
            ids: list[str] = (await self.ask("send", call=call, calls=list(each)))["ids"]
            self._heard |= dict.fromkeys(ids, heard)
            return ids
        finally:
            self._sending -= 1
            early, self._early = self._early, []
            for message in early:
                self.pushed(message)

    def unfollow(self, ids: Sequence[str]) -> None:
        for each in ids:
            self._heard.pop(each, None)

    async def close(self) -> None:
        """The end of all of it; not from its own thread."""
        await self.thread.run(self._close())
        if self._plane is not None:
            self._plane.close()
        self.thread.close()

    # What the link hands on

    def pushed(self, message: dict[str, Any]) -> None:
        if message["push"] == "call":
            if (heard := self._heard.get(message["call"])) is not None:
                heard(message)
            elif self._sending:
                self._early.append(message)
        elif message["push"] == "stop":
            # In this order: `job_now` sets the one and then looks at the other.
            self._stopped = message["job"], message["attempt"]
            job = self._job
            if job is not None and (job.id, job.attempt) == self._stopped:
                job.end()

    async def asked(self, body: Any) -> Any:
        if self._plane is None:
            raise LinkRefused("This process holds nothing for others.")
        return await self._plane.answer_relayed(body)

    def lost(self) -> None:
        if self._job is not None:
            # Nobody has interrupted it, and nobody is to be told so.
            self._job.end(
                LinkLost("The connection of this process to its worker ended while a node waited for it.")
            )

    # Inside

    async def _tell(self, op: str, arguments: dict[str, Any]) -> None:
        try:
            if self.link is not None:
                await self.link.tell(op, **arguments)
        except (LinkLost, TimeoutError) as error:
            log.debug("%s was not told: %s", op, error)

    async def _take(self, job: RunningJob, content: str) -> None:
        """What the caller of a workflow gives, it says when it is asked for it (calls/handoff.py)."""
        if job.call is not None and job.call.get("handoff") is not None:
            peer = Peer.model_validate(job.call["handoff"])
            answer = await self.plane.ask(peer, {"content": content}, ANSWER_SECONDS)
            self.inbox.put(job.id, content, answer["packed"])

    async def _start(self) -> None:
        async with self._starting:
            hello = await self.ask("hello") if self._plane is None else None
            if hello is not None:
                self.worker, self.worker_id = hello["name"], hello["worker"]
                codec = hello.get("codec", "auto")
                self._plane = await asyncio.to_thread(
                    Plane,
                    hello["place"],
                    _Relay(self),
                    codec=codec,
                    lossy=codec == "fp16",
                    thread=self.thread,
                )

    def _forget(self, job: str) -> None:
        """It is over: nothing is held or to be had for it any longer."""
        self._leave()
        self.inbox.drop(job)
        if self._plane is not None:
            self._plane.release(job)

    def _leave(self) -> None:
        # `at_hand` takes some away on another thread.
        coming, self._coming = self._coming, {}
        for task in tuple(coming.values()):
            task.cancel()

    async def _close(self) -> None:
        if self.link is not None:
            await self.link.close()
        if self._job is not None:
            self._job.end()


async def _of(task: asyncio.Task[T]) -> T:
    return await task


class _Relay:
    """The plane's way through the workers; its loop is another."""

    def __init__(self, here: Here) -> None:
        self._here = here

    async def ask(self, via: str, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = await self._here.thread.run(self._here.ask("relay", via=via, body=body))
        return answer


@functools.cache
def here() -> Here | None:
    """That of this process; None where no worker started it."""
    return Here(os.environ) if ADDRESS_VARIABLE in os.environ else None
