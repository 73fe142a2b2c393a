"""A node that has another worker execute a workflow, and what becomes of that where it is cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from comfy_dist.calls import workflow_calls
from comfy_dist.calls.errors import Stopped
from comfy_dist.calls.here import Here
from comfy_dist.calls.sent_workflows import CallsBack, Result, Workflow
from comfy_dist.calls.workflow_calls import WorkflowFailed, on_all_others, on_worker
from tests.calls.processes import PARENT, Worker, a_worker, until
from tests.support.patience import PATIENCE
from tests.support.talking import node

pytestmark = pytest.mark.asyncio

CANCELLED: dict[str, Any] = {"status": "cancelled", "outputs": {}, "error": {}}
WORKFLOW = Workflow(title="The workflow a.json", prompt={"1": node("SaveImage")}, targets=["1"], node="9")


async def _whose_call_is_cancelled(worker: Worker, here: Here) -> asyncio.Future[Result]:
    """What the node waits for that has sent it."""
    job = await here.thread.run(here.job())
    waiting = asyncio.ensure_future(here.thread.run(job.wait(on_worker(here, job, WORKFLOW, "w1"))))
    await until(lambda: bool(worker.sent))
    worker.push("call-1", "ended", **CANCELLED)
    # It has heard it.
    await here.thread.run(here.ask("hello"))
    return waiting


@pytest.mark.parametrize(("engines", "ancestor"), [(1, "worker"), (1, "home"), (2, "worker")])
async def test_who_was_called_calls_nobody_who_waits_for_it(engines: int, ancestor: str) -> None:
    """But one with another engine, which has time for it."""
    async with a_worker() as worker, worker.process(PARENT) as here:
        waits = {"id": "w1-id", "name": "w1", "state": "busy", "devices": ["cpu"] * engines}
        worker.workers = [waits]
        call = {"root": "prompt", "worker": "other-id", "home": "other-id", ancestor: "w1-id"}
        worker.jobs[PARENT] = {**worker.jobs[PARENT], "call": call}
        job = await here.thread.run(here.job())
        asked = here.thread.run(job.wait(on_all_others(here, job, WORKFLOW)))
        with pytest.raises(CallsBack, match=r"The workflow a\.json cannot be executed on all others from here"):
            await asyncio.wait_for(asked, PATIENCE)
        named = asyncio.ensure_future(here.thread.run(job.wait(on_worker(here, job, WORKFLOW, "w1"))))
        if engines == 1:
            with pytest.raises(CallsBack, match="on worker w1 from here"):
                await asyncio.wait_for(named, PATIENCE)
            assert not worker.sent
        else:
            await until(lambda: bool(worker.sent))
            named.cancel()


async def test_a_prompt_that_is_interrupted_has_not_failed_where_others_heard_of_it_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workflow_calls, "INTERRUPTED_SECONDS", PATIENCE)
    async with a_worker() as worker, worker.process(PARENT) as here:
        waiting = await _whose_call_is_cancelled(worker, here)
        worker.stop()
        with pytest.raises(Stopped):
            await asyncio.wait_for(waiting, PATIENCE)


async def test_a_call_that_is_cancelled_alone_fails_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow_calls, "INTERRUPTED_SECONDS", 0.05)
    async with a_worker() as worker, worker.process(PARENT) as here:
        waiting = await _whose_call_is_cancelled(worker, here)
        with pytest.raises(WorkflowFailed, match=r"The workflow a\.json was cancelled on worker far"):
            await asyncio.wait_for(waiting, PATIENCE)
