"""What an engine tells of calls and of hidden nodes, which no client sees, and what it is told of an attempt."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest

from comfy_dist.engine.graph import GraphEngine
from comfy_dist.engine.protocol import NOT_OF_CALLS, Errored, Interrupted
from comfy_dist.messages import Call, Job
from tests.engine.prompts import Ran, empty_image, node, run, started
from tests.support.patience import PATIENCE
from tests.support.talking import Prompt

pytestmark = pytest.mark.asyncio(loop_scope="session")

CALL = Call(parent="p", attempt=1, root="p", home="w", worker="w", rank=1, world=2)


def sliced(color: int) -> Prompt:
    """Node 2 is hidden, and ends at once; 3 too, and is waited for."""
    value = uuid.uuid4().hex
    return {
        "1": empty_image(color=color),
        "2": node("ComfyDistSlice", values=["1", 0], start=0, stop=1),
        "3": node("ContractHiddenAfter", value=value, after=f"{value} begun"),
        "4": node("PreviewImage", images=["2", 0]),
        "5": node("TestSink", value=["3", 0]),
    }


def events(ran: Ran) -> set[str]:
    return {name for name, _ in ran.events}


async def test_of_a_call_nothing_is_told_that_only_clients_want_nor_of_its_hidden_nodes(
    engine: GraphEngine,
) -> None:
    ran = await run(engine, sliced(1), call=CALL)
    assert not NOT_OF_CALLS & events(ran)
    assert sorted(ran.order()) == ["1", "4", "5"]
    assert {"executed 4", "executed 5", "execution_success"} <= set(ran.names)
    # Nor where it goes wrong.
    wrong = await run(engine, {"7": node("NotHere")}, call=CALL)
    assert isinstance(wrong.outcome, Errored)
    assert wrong.names == ["execution_error"]


async def test_of_a_prompt_after_a_call_everything_is_told(engine: GraphEngine) -> None:
    await run(engine, sliced(2), call=CALL)
    ran = await run(engine, sliced(3))
    assert events(ran) >= NOT_OF_CALLS
    assert ran.names[:2] == ["execution_start", "execution_cached"]
    assert sorted(ran.order()) == ["1", "2", "3", "4", "5"]
    told = [data["nodes"] for name, data in ran.events if name == "progress_state"]
    for node_id in "12345":
        states = [nodes[node_id]["state"] for nodes in told if node_id in nodes]
        # Those of hidden nodes with those of others, and only where there is time for it.
        assert states[0] == "running" or node_id in "23"
        assert states[-1] == "finished"
    # When each begins and ends that is not hidden, and the end of a hidden one that was told to run.
    assert 6 <= len(told) <= 8


async def test_that_a_hidden_node_is_waited_for_is_told_within_that_wait(engine: GraphEngine) -> None:
    prompt = {
        "1": node("ContractHiddenAfter", value=uuid.uuid4().hex, after="nothing ends it"),
        "2": node("TestSink", value=["1", 0]),
    }
    job = f"waits-{uuid.uuid4()}"
    waiting = await started(engine, prompt, job)
    await engine.interrupt(job)
    outcome = await asyncio.wait_for(waiting, PATIENCE)
    assert isinstance(outcome, Interrupted)


@pytest.mark.parametrize("call", [CALL, None], ids=["call", "prompt"])
async def test_an_engine_is_told_the_attempt(engine: GraphEngine, call: Call | None) -> None:
    prompt = {"1": node("TestPid"), "2": node("ContractTold", value=["1", 0])}
    for attempt in (3, 4):
        job = Job(id=f"told-{uuid.uuid4()}", prompt=prompt, call=call)
        outcome = await engine.execute(job, lambda _: None, attempt=attempt)
        told = json.loads(outcome.outputs["2"]["text"][0])
        assert told == {
            "id": job.id,
            "attempt": attempt,
            "call": call.model_dump(mode="json", exclude_none=True) if call is not None else None,
            "spread": job.spread.model_dump(mode="json", exclude_none=True),
        }
