"""Nodes of the newer schema do what they do in a stock ComfyUI."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from comfy_dist.engine.graph import GraphEngine
from comfy_dist.engine.protocol import Errored, Executed
from comfy_dist.workspace import Workspace
from tests.engine.prompts import Ran, node, run
from tests.engine.schema.cases import CASES, EXTRA_DATA, REFUSED, comparable, described_file, refusals, returning

pytestmark = pytest.mark.asyncio(loop_scope="session")

RECORDED = json.loads((Path(__file__).parent / "schema" / "recorded.json").read_text())


async def test_object_info_is_what_comfyui_says_of_the_same_classes(engine: GraphEngine) -> None:
    catalogue = await engine.catalogue()
    ours = {name: info for name, info in catalogue.nodes.items() if name.startswith("Schema")}
    assert ours.keys() == RECORDED["object_info"].keys()
    for name, info in RECORDED["object_info"].items():
        assert ours[name] == info, name


def files_of(ran: Ran, workspace: Workspace) -> list[dict[str, Any]]:
    return [
        described_file((workspace.folder(image["type"]) / image["subfolder"] / image["filename"]).read_bytes())
        for shown in ran.outcome.outputs.values()
        for image in shown.get("images", ())
    ]


async def test_workflows_run_as_in_comfyui(engine: GraphEngine, engine_workspace: Workspace) -> None:
    """Events, results, errors and files of one prompt after the other, with what is cached between them."""
    shutil.rmtree(engine_workspace.output / "schema", ignore_errors=True)
    for name, prompt in CASES.items():
        ran = await run(engine, json.loads(json.dumps(prompt)), extra_data=EXTRA_DATA)
        expected = RECORDED["runs"][name]
        status = "success" if isinstance(ran.outcome, Executed) else "error"
        assert comparable(ran.events) == expected["events"], name
        assert status == expected["status"], name
        assert files_of(ran, engine_workspace) == expected["files"], name


async def test_prompts_are_refused_as_in_comfyui(engine: GraphEngine) -> None:
    for name, prompt in REFUSED.items():
        verdict = await engine.validate(prompt, None)
        assert not verdict.valid, name
        assert refusals(verdict.model_dump()) == RECORDED["refused"][name], name


@pytest.mark.parametrize("how", ["blocker", "block_silently"])
async def test_a_blocker_blocks_however_it_is_returned(engine: GraphEngine, how: str) -> None:
    """ComfyUI loses one that `execute` returns as it is: what comes after runs with nothing."""
    ran = await run(engine, returning(how))
    assert isinstance(ran.outcome, Executed)
    assert ran.order() == ["1", "2"]
    assert ran.outcome.outputs == {}
    said = [data["exception_message"] for name, data in ran.events if name == "execution_error"]
    assert said == (["Execution Blocked: a blocker"] if how == "blocker" else [])


async def test_overlapping_nodes_know_which_they_are(engine: GraphEngine) -> None:
    prompt = {f"n{index}": node("SchemaAsync", text=str(index)) for index in range(5)}
    prompt |= {f"s{index}": node("SchemaShow", value=[f"n{index}", 0]) for index in range(5)}
    ran = await run(engine, prompt)
    assert [ran.text(f"s{index}") for index in range(5)] == [f"{index} by n{index}" for index in range(5)]


async def test_results_that_tell_of_their_node_are_not_another_nodes(engine: GraphEngine) -> None:
    """ComfyUI finds them by their inputs alone."""
    for name in ("a", "b"):
        ran = await run(engine, {name: node("SchemaAsync", text="x"), "s": node("SchemaShow", value=[name, 0])})
        assert ran.text("s") == f"X by {name}"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (node("SchemaLocked"), "SchemaLocked.kept cannot be assigned to while the node runs"),
        (
            node("SchemaExpandRefused", text="a"),
            "SchemaExpandRefused returned nodes to expand into; its schema lacks",
        ),
        (
            node("SchemaReturns", how="text"),
            "SchemaReturns.execute returned a value of type str; it must return an",
        ),
    ],
)
async def test_what_a_node_may_not_do_is_told_in_a_sentence(
    engine: GraphEngine, source: dict[str, Any], said: str
) -> None:
    outcome = (await run(engine, {"1": source, "2": node("SchemaShow", value=["1", 0])})).outcome
    assert isinstance(outcome, Errored)
    assert said in outcome.error["exception_message"]
