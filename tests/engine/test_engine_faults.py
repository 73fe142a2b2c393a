"""A child that dies, is interrupted or is told to stop never takes the worker with it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from comfy_dist.engine.graph import GraphEngine
from comfy_dist.engine.protocol import EngineDied, Executed, Interrupted
from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import Job
from comfy_dist.workspace import Workspace
from tests.engine.prompts import node, run, started
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="session")


def sleeping(seconds: float = 600, class_type: str = "TestSleep", steps: int = 20_000) -> dict[str, Any]:
    return {"5": node(class_type, seconds=seconds, steps=steps), "6": node("TestSink", value=["5", 0])}


async def test_a_dying_child_names_the_node_and_comes_back(engine: GraphEngine) -> None:
    """Other deaths: tests/worker/test_engine_deaths.py."""
    pid = engine.pid
    culprit = node("TestExit", code=3, value=["1", 0])
    prompt = {"1": node("TestConcat", a="x", b="y"), "9": culprit, "s": node("TestSink", value=["9", 0])}
    with pytest.raises(EngineDied) as died:
        await run(engine, prompt)
    assert str(died.value) == "The process of engine graph exited with code 3 while executing node 9 (TestExit)."
    assert died.value.node == "9"
    await engine.start()
    assert engine.pid != pid
    assert isinstance((await run(engine, {"1": node("PreviewAny", source="x")})).outcome, Executed)


async def test_kill_ends_a_running_prompt_at_once(engine: GraphEngine) -> None:
    task = await started(engine, sleeping(steps=1), "k")
    await engine.kill()
    with pytest.raises(EngineDied, match=r"SIGKILL.* while executing node 5 \(TestSleep\)"):
        await task
    with pytest.raises(EngineDied, match="not running"):
        await engine.validate({}, None)


async def test_a_fault_while_events_are_told_ends_the_prompt(
    engine: GraphEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for an end that was lost with them."""

    def emit(event: object) -> None:
        raise RuntimeError("there is no telling")

    with pytest.raises(EngineDied):
        await asyncio.wait_for(engine.execute(Job(id="f", prompt=sleeping(0.01, steps=1)), emit), PATIENCE)
    assert "there is no telling" in caplog.text
    await engine.start()
    assert isinstance((await run(engine, {"1": node("PreviewAny", source="x")})).outcome, Executed)


@pytest.mark.parametrize("class_type", ["TestSleep", "TestAsyncSleep"])
async def test_an_interrupt_is_seen_at_the_next_progress_update(engine: GraphEngine, class_type: str) -> None:
    task = await started(engine, sleeping(class_type=class_type), "job-i")
    await engine.interrupt("another")
    await asyncio.sleep(0.1)
    assert not task.done()
    await engine.interrupt("job-i")
    outcome = await asyncio.wait_for(task, PATIENCE)
    assert isinstance(outcome, Interrupted)
    name, data = outcome.messages[-1]
    assert name == "execution_interrupted"
    assert data.pop("timestamp")
    assert data == {"prompt_id": "job-i", "node_id": "5", "node_type": class_type, "executed": []}
    assert isinstance((await run(engine, {"1": node("PreviewAny", source="x")})).outcome, Executed)


async def test_an_interrupt_is_seen_between_nodes(engine: GraphEngine) -> None:
    prompt: dict[str, Any] = {
        str(i): node("TestSleep", seconds=0.3, steps=1, value=[str(i - 1), 0]) for i in range(1, 400)
    }
    prompt["0"] = node("PrimitiveString", value="x")
    prompt["s"] = node("TestSink", value=["399", 0])
    task = await started(engine, prompt, "b")
    await engine.interrupt("b")
    assert isinstance(await asyncio.wait_for(task, PATIENCE), Interrupted)


async def test_an_interrupt_waits_for_an_async_node_no_longer(engine: GraphEngine) -> None:
    task = await started(engine, sleeping(class_type="TestAsyncSleep", steps=1), "a")
    await engine.interrupt("a")
    assert isinstance(await asyncio.wait_for(task, PATIENCE), Interrupted)


async def test_an_interrupt_ends_a_regular_expression_that_runs_away(engine: GraphEngine) -> None:
    switches = {"case_insensitive": False, "multiline": False, "dotall": False}
    runaway = node("RegexMatch", string="a" * 40 + "b", regex_pattern="(a+)+$", **switches)
    task = await started(engine, {"1": runaway, "2": node("PreviewAny", source=["1", 0])}, "r")
    await engine.interrupt("r")
    assert isinstance(await task, Interrupted)


async def test_a_late_interrupt_does_not_hit_the_next_job(engine: GraphEngine) -> None:
    await run(engine, {"1": node("PreviewAny", source="x")})
    await engine.interrupt("job-gone")
    assert isinstance((await run(engine, sleeping(0.1, steps=3))).outcome, Executed)


async def test_a_cancelled_execute_leaves_the_engine_usable(engine: GraphEngine) -> None:
    task = await started(engine, sleeping(), "c")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    ran = await asyncio.wait_for(run(engine, {"1": node("PreviewAny", source="x")}), PATIENCE)
    assert ran.text("1") == "x"


async def test_a_child_that_cannot_start_is_told_in_a_sentence(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    workspace.create()
    (workspace.custom_nodes / "a_good_one.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    (workspace.custom_nodes / "fatal.py").write_text("import os\nos._exit(7)\n")
    (workspace.custom_nodes / "one_more.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    said = "exited with code 7 while it started, with the code of the node pack fatal.py; its log says why."
    with pytest.raises(ComfyDistError, match=re.escape(said)):
        await GraphEngine(workspace).start()


async def test_a_gpu_that_is_not_there_is_named(engine_workspace: Workspace) -> None:
    engine = GraphEngine(engine_workspace, device="97")
    with pytest.raises(ComfyDistError, match="There is no GPU 97"):
        await engine.start()
    assert not engine.running


async def test_close_stops_even_a_node_that_does_not_look_up(engine: GraphEngine) -> None:
    """The last of these tests: who needs the child after it starts another."""
    task = await started(engine, sleeping(steps=1), "z")
    async with asyncio.timeout(PATIENCE):
        await engine.close()
    # Told before its first line ran, it is interrupted; after that it has to be ended.
    (end,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(end, (EngineDied, Interrupted))
    assert not engine.running
