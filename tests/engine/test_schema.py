"""Nodes of the newer schema do what they do in a stock ComfyUI."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from comfy_dist.engine.graph import GraphEngine
from comfy_dist.engine.protocol import Executed
from comfy_dist.workspace import Workspace
from tests.engine.prompts import Ran, run
from tests.engine.schema.cases import CASES, EXTRA_DATA, REFUSED, comparable, described_file, refusals

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
