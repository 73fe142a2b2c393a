"""A job that is cancelled when a worker has it already and has not begun it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from comfy_dist.messages import Cancelled, CancelledFact, Fact, Finished, Job, StartedFact
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.worker import Worker
from comfy_dist.worker.presence import Identity
from comfy_dist.workspace import Workspace
from tests.support.in_process import Obedient, Stage, prompt
from tests.support.patience import PATIENCE


class CancelledJustBefore(MemoryTransport):
    """Somebody cancels the job "unwanted" between its delivery and the claim of it."""

    async def append_fact(self, fact: Fact) -> None:
        if isinstance(fact, StartedFact) and fact.job == "unwanted":
            await super().append_fact(CancelledFact(job=fact.job, by="somebody"))
        await super().append_fact(fact)


async def test_it_never_starts_and_ends_as_cancelled(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    workspace.create()
    broker, stage = MemoryBroker(), Stage()
    frontend = MemoryTransport(broker)
    for id_ in ("unwanted", "wanted"):
        await frontend.submit(Job(id=id_, prompt=prompt("Quick")))
    worker = Worker(Identity(name="w", id="w-1"), CancelledJustBefore(broker), [Obedient("w", stage)], workspace)
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
    assert stage.executed == [("w", "wanted")]
    assert [(type(end), end.job_id) for end in ends] == [(Cancelled, "unwanted"), (Finished, "wanted")]
    assert isinstance(ends[0], Cancelled)
    assert (ends[0].by, ends[0].started) == ("somebody", False)
