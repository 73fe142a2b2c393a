"""Nodes that break ComfyUI's contract: a sentence each, in the same process, and the next prompt runs."""

from __future__ import annotations

import math
from typing import Any

import pytest

from comfy_dist.engine.graph import GraphEngine
from comfy_dist.engine.protocol import Errored, Executed
from tests.engine.prompts import Ran, node, run

pytestmark = pytest.mark.asyncio(loop_scope="session")


def with_sink(culprit: dict[str, Any], **others: dict[str, Any]) -> dict[str, Any]:
    return {"1": culprit, "2": node("TestSink", value=["1", 0]), **others}


async def fails(engine: GraphEngine, prompt: dict[str, Any], said: str, where: str = "1") -> Ran:
    """The prompt fails at node `where` with what is `said`; the engine goes on as the same process."""
    pid = engine.pid
    ran = await run(engine, prompt)
    assert isinstance(ran.outcome, Errored), ran.outcome
    assert said in ran.outcome.error["exception_message"]
    assert (ran.outcome.error["node_id"], ran.outcome.error["node_type"]) == (where, prompt[where]["class_type"])
    assert ran.events[-1] == ("execution_error", ran.outcome.error)
    assert isinstance((await run(engine, {"1": node("PreviewAny", source=f"after {ran.id}")})).outcome, Executed)
    assert engine.pid == pid
    return ran


@pytest.mark.parametrize(
    ("culprit", "said"),
    [
        (node("ContractFailInit", value="x"), "no instance"),
        (node("ContractFailLazy", value=["0", 0]), "no status"),
        (
            node("ContractAsk", name="more", more=1),
            "Node 1 says it needs input more, but that value is a constant",
        ),
        (node("ContractAsk", name="more"), "needs input more, but there is no input to that node at all"),
        (node("ContractAsyncFail", value="x"), "failed while waiting"),
        (node("ContractAsyncExit", value="x"), "The node raised SystemExit: 3"),
        (node("ContractCancel", value="x"), "given up"),
        (node("TestFail", message="stop", exception="KeyboardInterrupt"), "stop"),
        (node("TestFail", message="gone", exception="GeneratorExit"), "gone"),
        (
            node("ContractReturn", kind="none", index=0),
            "returned nothing; it must return a tuple of its 3 outputs.",
        ),
        (node("ContractReturn", kind="number", index=0), "returned a value of type int; it must return a tuple"),
        (
            node("ContractReturn", kind="bad ui", index=0),
            "The node's ui is of type list; it must be a dict of lists.",
        ),
        (
            node("ContractReturn", kind="bad expand", index=0),
            "The node's expand is of type list; it must be a dict",
        ),
        (
            node("ContractReturn", kind="bad node", index=0),
            "ContractReturn expands into a node new that is no node",
        ),
        (
            node("ContractReturn", kind="uneven", index=["many", 0]),
            "2 outputs for one item of its inputs and 3 for",
        ),
        (node("ContractNoList", value="x"), "Output 0 is declared as a list (OUTPUT_IS_LIST), but the node gave"),
        (node("ContractMute", value="x"), "<ContractMuteError without text: RuntimeError>"),
        (node("ContractVariadic", first=["none", 0]), "The input 'first' received an empty list"),
        (
            node("ContractExpand", kind="unknown", value="x"),
            "ContractExpand expands into NoSuchNode, which does not",
        ),
        (node("ContractExpand", kind="missing link", value="x"), "Node nowhere not found"),
        (node("ContractExpand", kind="duplicate", value=["many", 0]), "Attempt to add duplicate node fixed."),
        (node("ContractExpand", kind="cycle", value="x"), "Dependency cycle detected among"),
        (
            node("ContractExpand", kind="forever", value="x"),
            "ContractExpand expands without end: 1000 expansions lie",
        ),
        (node("ContractExpandChain", length=100_001), "come to 100001 nodes with this one of ContractExpandChain"),
    ],
    ids=lambda value: str(value["inputs"].get("kind", value["class_type"])) if isinstance(value, dict) else "",
)
async def test_a_node_that_breaks_the_contract_is_named_with_a_sentence(
    engine: GraphEngine, culprit: dict[str, Any], said: str
) -> None:
    others = {
        "0": node("PrimitiveString", value="x"),
        "many": node("ContractMany", count=2),
        "none": node("TestList", text=""),
    }
    await fails(engine, with_sink(culprit, **others), said)


async def test_an_output_that_was_not_returned_is_none_and_named_where_that_does_not_do(
    engine: GraphEngine, caplog: pytest.LogCaptureFixture
) -> None:
    prompt = {"1": node("ContractReturn", kind="short", index=0), "2": node("TestSink", value=["1", 0])}
    assert (await run(engine, prompt)).text("2") == "1"
    assert "Node 1 (ContractReturn) returned 1 of its 3 outputs; the others are None." in caplog.text
    prompt["3"] = node("TestSink", value=["1", 2])
    assert (await run(engine, prompt)).text("3") == "None"
    said = "The input 'a' is None: it is linked to output 2 of node 1, which returned 1 output."
    prompt["3"] = node("ContractLength", a=["1", 2], b=["1", 0])
    prompt["4"] = node("TestSink", value=["3", 0])
    ran = await fails(engine, prompt, said, "3")
    assert isinstance(ran.outcome, Errored)
    assert "input 'b'" not in ran.outcome.error["exception_message"]


async def test_an_output_of_the_wrong_type_fails_where_it_is_used(engine: GraphEngine) -> None:
    prompt = {"1": node("ContractThrough", value="no picture"), "2": node("PreviewImage", images=["1", 0])}
    ran = await fails(engine, prompt, "", "2")
    assert isinstance(ran.outcome, Errored)
    assert ran.outcome.error["current_inputs"]["images"] == ["no picture"]


async def test_a_fingerprint_that_raises_or_is_nan_counts_as_always_changed(
    engine: GraphEngine, caplog: pytest.LogCaptureFixture
) -> None:
    for culprit in (node("ContractFailFingerprint", value="x"), node("ContractFingerprint", always=True, mark="")):
        for _ in range(2):
            assert (await run(engine, with_sink(culprit))).order() == ["1", "2"]
    said = "IS_CHANGED of node 1 (ContractFailFingerprint) raised RuntimeError: no fingerprint: the node counts as"
    assert said in caplog.text


async def test_validation_code_that_raises_is_a_refusal_that_says_so(engine: GraphEngine) -> None:
    for culprit in ("ContractValidateRaise", "ContractValidateExit"):
        prompt = with_sink(node(culprit, number=1))
        verdict = await engine.validate(prompt, None)
        [error] = verdict.node_errors["1"]["errors"]
        assert error["type"] == "exception_during_inner_validation"
        assert error["details"] == "no verdict"
        await fails(engine, prompt, "Exception when validating inner node: no verdict")


async def test_input_types_that_raise_at_run_time_are_a_refusal_that_says_so(engine: GraphEngine) -> None:
    prompt = with_sink(node("ContractFailLater", value="x"))
    assert isinstance((await run(engine, prompt)).outcome, Executed)
    said = "INPUT_TYPES of ContractFailLater raised RuntimeError: no inputs any more"
    [error] = (await engine.validate(prompt, None)).node_errors["1"]["errors"]
    assert error["type"] == "exception_during_inner_validation"
    assert error["details"] == said
    await fails(engine, prompt, said)
    await fails(engine, with_sink(node("ContractExpand", kind="later", value="x")), "no inputs any more")
    await run(engine, {"1": node("ContractMend")})
    assert isinstance((await run(engine, prompt)).outcome, Executed)


async def test_what_an_async_node_does_for_other_items_ends_when_one_fails(
    engine: GraphEngine, caplog: pytest.LogCaptureFixture
) -> None:
    prompt = with_sink(node("ContractAsyncFailAt", value=["many", 0], item=1), many=node("ContractMany", count=3))
    await fails(engine, prompt, "not 1")
    assert (await run(engine, {"1": node("ContractWaiting")})).text("1") == "[]"
    failing = node("ContractAsyncFail", value=["many", 0])
    await fails(engine, with_sink(failing, many=node("ContractMany", count=3)), "failed while waiting")
    await run(engine, {"1": node("ContractWaiting")})
    assert "never retrieved" not in caplog.text


async def test_a_node_that_asks_for_ever_runs_once_it_has_what_it_asks_for(engine: GraphEngine) -> None:
    prompt = with_sink(
        node("ContractAsk", name="value", value=["0", 0]), **{"0": node("PrimitiveString", value="x")}
    )
    ran = await run(engine, prompt)
    assert ran.order() == ["1", "0", "1", "2"]
    assert ran.text("2") == "x"


async def test_a_node_that_asks_for_what_is_never_given_gets_none(engine: GraphEngine) -> None:
    culprit = node("ContractAsk", name="value", value=["0", 2])
    ran = await run(engine, with_sink(culprit, **{"0": node("ContractReturn", kind="short", index=0)}))
    assert ran.order() == ["1", "0", "1", "2"]
    assert ran.text("2") == "None"


@pytest.mark.parametrize(
    ("kind", "shown"), [("set", [[1]]), ("keys", None), ("text", ["abc"]), ("object", None), ("nan", None)]
)
async def test_what_json_has_no_form_for_is_shown_as_well_as_it_can_be(
    engine: GraphEngine, kind: str, shown: Any
) -> None:
    outcome = (await run(engine, {"1": node("ContractShow", kind=kind)})).outcome
    assert isinstance(outcome, Executed)
    [value, *_] = outcome.outputs["1"]["shown"]
    if shown is not None:
        assert outcome.outputs["1"]["shown"] == shown
    elif kind == "object":
        assert "object object at" in value
    elif kind == "nan":
        assert value is None or math.isnan(value)


@pytest.mark.parametrize("kind", ["endless", "deep"])
async def test_what_cannot_be_sent_at_all_fails_its_node(engine: GraphEngine, kind: str) -> None:
    for _ in range(2):
        await fails(engine, {"1": node("ContractShow", kind=kind)}, "")


async def test_expansions_that_show_each_other_in_a_circle_are_shown_nevertheless(engine: GraphEngine) -> None:
    ran = await run(engine, with_sink(node("ContractExpand", kind="own display", value="v")))
    assert ran.text("2") == "v"


async def test_a_loop_of_hundreds_of_expansions_ends(engine: GraphEngine) -> None:
    ran = await run(engine, with_sink(node("ContractLoop", count=300, text="l")))
    assert ran.text("2") == "l" * 300


async def test_giant_lists_are_mapped_and_told_of_in_short(engine: GraphEngine) -> None:
    count = 200_000
    prompt = {
        "1": node("ContractMany", count=count),
        "2": node("ContractFailAt", value=["1", 0], item=count - 1),
        "3": node("TestSink", value=["2", 0]),
    }
    ran = await fails(engine, prompt, f"not {count - 1}", "2")
    assert isinstance(ran.outcome, Errored)
    shown = ran.outcome.error["current_inputs"]["value"]
    assert shown[:3] == [0, 1, 2]
    assert shown[-1] == f"… and {count - 100} more"
    assert len(shown) == 101


@pytest.mark.parametrize("expanded", [False, True])
async def test_a_chain_of_3_000_nodes_runs_without_recursion(engine: GraphEngine, expanded: bool) -> None:
    length = 3_000
    if expanded:
        prompt = with_sink(node("ContractExpandChain", length=length))
        assert (await run(engine, prompt)).text("2") == "end"
        return
    prompt = {str(i): node("TestConcat", a=[str(i - 1), 0], b="") for i in range(1, length)}
    prompt["0"] = node("PrimitiveString", value="end")
    prompt["out"] = node("PreviewAny", source=[str(length - 1), 0])
    assert (await run(engine, prompt)).text("out") == "end"
    again = await run(engine, prompt)
    assert again.order() == []
    verdict = await engine.validate(prompt, None)
    assert verdict.valid
