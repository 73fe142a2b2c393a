"""The calls that a worker's attempts have sent: what becomes of each is told to the nodes that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from comfy_dist.messages import AttemptFailedFact, Fact, Job, ReleasedFact, StartedFact
from comfy_dist.transport import Transport
from comfy_dist.worker.arbiter import Arbiter
from comfy_dist.worker.attempt_calls import AttemptCalls
from comfy_dist.worker.link import LinkServer
from comfy_dist.worker.lookout import Lookout
from comfy_dist.worker.progress import ProgressSender

#: Calls whose ends are remembered: until the next announcement of who had them.
MOST_ENDED = 1024


class SentCalls:
    """One for all lanes of a worker."""

    def __init__(
        self,
        worker: str,
        transport: Transport,
        arbiter: Arbiter,
        links: LinkServer,
        name_of: Callable[[str], str],
        call_timeout: float | None,
    ) -> None:
        """`worker`: the id of this one. `name_of` gives a worker's name for its id."""
        #: Where the progress of calls goes, as if this worker were their client.
        self.progress_address = f"calls.{worker}"
        #: What the lanes execute.
        self.running: dict[int, AttemptCalls] = {}
        self._transport = transport
        self._arbiter = arbiter
        self._links = links
        self._name_of = name_of
        self._lookout = Lookout(worker, transport, arbiter, self.running, self.push, call_timeout)
        #: By the calls' ids.
        self._sent: dict[str, AttemptCalls] = {}
        #: The last that have ended, whoever they were for.
        self._ended: dict[str, None] = {}
        self._following = False
        self._has_calls = asyncio.Event()

    def begin(self, lane: int, job: Job, number: int, progress: ProgressSender) -> AttemptCalls:
        """The lane executes that attempt."""
        calls = self.running[lane] = AttemptCalls(lane, job, number, progress)
        return calls

    def end(self, calls: AttemptCalls) -> None:
        """The attempt is over, and nobody waits for its calls."""
        self.stop(calls)
        del self.running[calls.lane]
        for call_id in calls.calls:
            del self._sent[call_id]

    def add(self, calls: AttemptCalls, job: Job) -> None:
        """A call that the attempt sends."""
        self._sent[job.id] = calls
        calls.add(job)

    async def expect_progress(self) -> None:
        """Before the first is sent."""
        if not self._following:
            self._following = True
            await self._transport.follow(self.progress_address)
            self._has_calls.set()

    def stop(self, calls: AttemptCalls) -> None:
        """Tell the nodes of that attempt to wait no longer."""
        self._links.push(calls.lane, {"push": "stop", "job": calls.job.id, "attempt": calls.number})

    def push(self, calls: AttemptCalls, message: dict[str, Any] | None) -> None:
        """Tell the nodes of that attempt what has become of a call."""
        if message is not None:
            self._links.push(calls.lane, message)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._receive())
            tasks.create_task(self._follow_progress())
            tasks.create_task(self._lookout.run())

    def begun(self, call_id: str, worker: str, attempt: int, calls: AttemptCalls) -> None:
        """The nodes of the attempt that has sent the call say who executes it."""
        if self._sent.get(call_id) is calls:
            calls.started(call_id, worker, self._name_of(worker), attempt)

    def is_over(self, call_id: str, calls: AttemptCalls) -> None:
        """The nodes of the attempt that has sent the call say that its end is on its way."""
        if self._sent.get(call_id) is calls:
            self._remember(call_id)

    def has_ended(self, call_id: str) -> bool:
        """Whether it was one of this worker's, of late, and its end has come here or is on its way."""
        return call_id in self._ended

    def _remember(self, call_id: str) -> None:
        self._ended[call_id] = None
        if len(self._ended) > MOST_ENDED:
            del self._ended[next(iter(self._ended))]

    def fold(self, fact: Fact) -> None:
        """A fact of the control stream."""
        if not isinstance(fact, (StartedFact, AttemptFailedFact, ReleasedFact)):
            return
        if (calls := self._sent.get(fact.job)) is None:
            return
        # The first claim of a number has it; what is folded already says whose it is.
        if self._arbiter.claims.holder(fact.job) != (fact.worker, fact.attempt):
            return
        if isinstance(fact, StartedFact):
            name = self._name_of(fact.worker)
            self.push(calls, calls.started(fact.job, fact.worker, name, fact.attempt))
        else:
            # Who takes it next may come late, or never.
            self.push(calls, calls.gone(fact.job, fact.attempt))

    async def _receive(self) -> None:
        async for ended in self._transport.results():
            self._remember(ended.call)
            calls = self._sent.get(ended.call)
            # Where not: of an attempt before this one.
            if calls is not None:
                self.push(calls, calls.end(ended))

    async def _follow_progress(self) -> None:
        await self._has_calls.wait()
        async with self._transport.progress(everyones=False) as progress:
            async for message in progress:
                if (calls := self._sent.get(message.job_id)) is not None:
                    calls.on_progress(message)
