"""A node that has another worker execute a workflow, and what becomes of that where it is cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from comfy_dist.calls import workflow_calls
from comfy_dist.calls.errors import Stopped
from comfy_dist.calls.here import Here
from comfy_dist.calls.sent_workflows import Result, Workflow
from comfy_dist.calls.workflow_calls import WorkflowFailed, on_worker
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
