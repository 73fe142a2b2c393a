"""Lazy inputs, expansions, blockers, raw links and hidden inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from comfy_dist.engine.graph import GraphEngine
from comfy_dist.engine.protocol import Errored, Executed
from tests.engine.prompts import node, run

pytestmark = pytest.mark.asyncio(loop_scope="session")


def switch(first: bool, file: Path) -> dict[str, Any]:
    return {
        "a": node("TestCounter", path=str(file), label="a", value="A"),
        "b": node("TestCounter", path=str(file), label="b", value="B"),
        "s": node("TestSwitch", first=first, a=["a", 0], b=["b", 0]),
        "out": node("TestSink", value=["s", 0]),
    }


async def test_only_the_branch_that_is_asked_for_runs(engine: GraphEngine, tmp_path: Path) -> None:
    file = tmp_path / "count"
    ran = await run(engine, switch(True, file))
    assert ran.text("out") == "A"
    assert ran.order() == ["s", "a", "s", "out"]
    assert (await run(engine, switch(False, file))).text("out") == "B"
    assert file.read_text() == "a\nb\n"


async def test_a_node_expands_into_others_shown_under_it(engine: GraphEngine) -> None:
    prompt = {"1": node("TestRepeat", text="ab", times=3), "2": node("TestSink", value=["1", 0])}
    ran = await run(engine, prompt)
    assert ran.text("2") == "ababab"
    executing = [data for name, data in ran.events if name == "executing"]
    assert [data["node"] for data in executing] == [
        "1",
        "1.0.0.1",
        "1.0.0.1.0.0.1",
        "1.0.0.1.0.0.2",
        "1.0.0.2",
        "2",
    ]
    assert {data["display_node"] for data in executing[:-1]} == {"1"}
    again = await run(engine, prompt)
    assert again.order() == []
    assert again.text("2") == "ababab"
    # What the expansion computed is found again, though the node after it changed.
    prompt["3"] = node("TestSink", value=["1", 0])
    assert (await run(engine, prompt)).order() == []


async def test_outputs_of_an_expansion_keep_their_places_whatever_they_hold(engine: GraphEngine) -> None:
    prompt = {
        "1": node("ContractExpandLists", text="a\nb\nc"),
        "2": node("TestJoin", value=["1", 0], separator="+"),
        "3": node("TestSink", value=["2", 0]),
        "4": node("TestSink", value=["1", 1]),
    }
    ran = await run(engine, prompt)
    assert ran.text("3") == "a+b+c"
    assert ran.text("4") == "second"


async def test_output_nodes_of_an_expansion_run(engine: GraphEngine) -> None:
    ran = await run(engine, {"1": node("TestExpandOutput", text="deep", fail=False)})
    assert isinstance(ran.outcome, Executed)
    assert ran.outcome.outputs == {"1.0.0.1": {"text": ["deep"]}}
    assert ran.outcome.meta["1.0.0.1"] == {
        "node_id": "1.0.0.1",
        "display_node": "1",
        "parent_node": "1",
        "real_node_id": "1",
    }


async def test_an_error_in_an_expansion_is_the_node_that_expanded(engine: GraphEngine) -> None:
    outcome = (await run(engine, {"1": node("TestExpandOutput", text="deep", fail=True)})).outcome
    assert isinstance(outcome, Errored)
    assert (outcome.error["node_id"], outcome.error["node_type"]) == ("1", "TestExpandOutput")
    assert outcome.error["exception_message"] == "deep\n"


@pytest.mark.parametrize("message", ["", "nothing to do"])
async def test_what_comes_after_a_blocker_does_not_run(engine: GraphEngine, message: str) -> None:
    prompt = {
        "1": node("TestBlock", message=message, value="v"),
        "2": node("TestConcat", a=["1", 0], b="x"),
        "3": node("TestSink", value=["2", 0]),
        "4": node("PreviewAny", source="other"),
    }
    ran = await run(engine, prompt)
    assert isinstance(ran.outcome, Executed)
    assert set(ran.outcome.outputs) == {"4"}
    told = [data for name, data in ran.events if name == "execution_error"]
    if message:
        [error] = told
        assert error["node_id"] == "2"
        assert error["exception_message"] == "Execution Blocked: nothing to do"
        assert error["exception_type"] == "ExecutionBlocked"
    else:
        assert told == []


async def test_a_raw_link_arrives_as_it_is(engine: GraphEngine) -> None:
    prompt = {
        "1": node("PrimitiveString", value="x"),
        "2": node("TestRawLink", value=["1", 0]),
        "3": node("TestSink", value=["2", 0]),
    }
    assert (await run(engine, prompt)).text("3") == "['1', 0]"


async def test_hidden_inputs(engine: GraphEngine) -> None:
    prompt = {"7": node("TestHidden"), "8": node("TestSink", value=["7", 0])}
    extra = {"extra_pnginfo": {"workflow": 1}, "api_key_comfy_org": "k"}
    ran = await run(engine, prompt, extra_data=extra)
    assert ran.text("8") == "['7', '8'] TestHidden {'workflow': 1} 7 k"
