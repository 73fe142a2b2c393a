"""One try at a job, in an engine that has a fault of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfy_dist.engine import Emit, Executed, Outcome
from comfy_dist.engine.graph import GraphEngine
from comfy_dist.messages import AttemptFailed, Finished, Job
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.worker.attempt import Attempt
from comfy_dist.worker.progress import ProgressSender
from comfy_dist.workspace import Workspace


class Faulty(GraphEngine):
    async def execute(self, job: Job, emit: Emit, *, attempt: int = 1) -> Outcome:
        raise ZeroDivisionError("by nothing")


class Done(GraphEngine):
    async def execute(self, job: Job, emit: Emit, *, attempt: int = 1) -> Outcome:
        return Executed()


def attempt(engine: GraphEngine, job: Job, number: int = 1) -> Attempt:
    return Attempt(
        job,
        number,
        worker="w",
        engine=engine,
        device="cpu",
        progress=ProgressSender(MemoryTransport(MemoryBroker()), job, number),
        interrupt_grace=1.0,
    )


async def test_its_end_says_whose_job_it_was(tmp_path: Path) -> None:
    """A ledger that is built anew may have nothing but the end of a job."""
    job = Job(id="j", prompt={}, client_id="c", user="ann")
    ending = await attempt(Done(Workspace.at(tmp_path)), job).execute()
    assert isinstance(ending, Finished)
    assert (ending.client_id, ending.user) == ("c", "ann")


async def test_a_fault_of_an_engine_costs_the_attempt_and_not_the_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = Job(id="j", prompt={})
    ending = await attempt(Faulty(Workspace.at(tmp_path)), job, 2).execute()
    assert isinstance(ending, AttemptFailed)
    assert (ending.worker, ending.attempt) == ("w", 2)
    assert ending.reason == "Engine graph has a fault (ZeroDivisionError: by nothing); the worker's log says more."
    assert "ZeroDivisionError" in caplog.text
