"""A job that is cancelled when a worker has it already and has not begun it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from comfy_dist.engine import Emit, Executed, Outcome
from comfy_dist.engine.graph import GraphEngine
from comfy_dist.messages import Cancelled, CancelledFact, Fact, Finished, Job, StartedFact
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.worker import Worker
from comfy_dist.worker.presence import Identity
from comfy_dist.workspace import Workspace
from tests.support.patience import PATIENCE


class CancelledJustBefore(MemoryTransport):
    """Somebody cancels the job "unwanted" between its delivery and the claim of it."""

    async def append_fact(self, fact: Fact) -> None:
        if isinstance(fact, StartedFact) and fact.job == "unwanted":
            await super().append_fact(CancelledFact(job=fact.job, by="somebody"))
        await super().append_fact(fact)


class Counting(GraphEngine):
    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace)
        self.executed: list[str] = []

    async def execute(self, job: Job, emit: Emit) -> Outcome:
        self.executed.append(job.id)
        return Executed()


async def test_it_never_starts_and_ends_as_cancelled(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    workspace.create()
    broker, engine = MemoryBroker(), Counting(workspace)
    frontend = MemoryTransport(broker)
    for id_ in ("unwanted", "wanted"):
        await frontend.submit(Job(id=id_, prompt={}))
    worker = Worker(Identity(name="w", id="w-1"), CancelledJustBefore(broker), [engine], workspace)
    serving = asyncio.create_task(worker.serve())
    ends = []
    try:
        async with asyncio.timeout(PATIENCE):
            async for recorded in frontend.events(None):
                if isinstance(recorded.event, (Cancelled, Finished)):
                    ends.append(recorded.event)
                if len(ends) == 2:
                    break
    finally:
        worker.drain()
        await serving
    assert engine.executed == ["wanted"]
    assert [(type(end), end.job_id) for end in ends] == [(Cancelled, "unwanted"), (Finished, "wanted")]
    assert isinstance(ends[0], Cancelled)
    assert (ends[0].by, ends[0].started) == ("somebody", False)
