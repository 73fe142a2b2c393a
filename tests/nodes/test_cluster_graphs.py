"""Graphs with Cluster nodes that no worker has planned: everything happens in place. With COMFYUI_DIR set, on the
ComfyUI there too.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from comfy_dist.engine import Engine, Errored, Executed, Outcome
from comfy_dist.engine.comfyui import ComfyuiEngine, Options, Started
from comfy_dist.engine.graph import GraphEngine
from comfy_dist.messages import Job
from comfy_dist.nodes import cluster
from comfy_dist.workspace import Workspace
from tests.engines.conftest import COMFYUI_DIR, stock_installation
from tests.nodes.cluster_graphs import FAILING, GRAPHS, Prompt, images, node, same, subgraph, used

pytestmark = pytest.mark.asyncio(loop_scope="module")
PACKS = Path(__file__).parents[1] / "packs"
#: Those with tests of their own.
ELSEWHERE = {"ClusterExecuteWorkflow", "ClusterExecuteCurrentWorkflow", "ClusterInfo"}
#: Another's pack, which has a node of one of our names.
OTHERS = """
class Info:
    CATEGORY, FUNCTION, RETURN_TYPES = "theirs", "run", ("INT", "INT", "STRING")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        return (7, 7, "theirs")


NODE_CLASS_MAPPINGS = {"ClusterInfo": Info}
NODE_DISPLAY_NAME_MAPPINGS = {"ClusterInfo": "Theirs"}
"""
_ids = itertools.count()


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=["graph", *(["comfyui"] if COMFYUI_DIR else [])]
)
async def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Engine]:
    workspace = Workspace.at(tmp_path_factory.mktemp(request.param))
    workspace.create()
    shutil.copytree(PACKS / "distributed_nodes", workspace.custom_nodes / "distributed_nodes")
    Image.new("RGB", (3, 2), (200, 100, 50)).save(workspace.input / "some.png")
    (workspace.custom_nodes / "others.py").write_text(OTHERS)
    if request.param == "graph":
        found: Engine = GraphEngine(workspace)
    else:
        found = ComfyuiEngine(workspace, Started(stock_installation(), workspace, Options(device="cpu")))
    await found.start()
    yield found
    await found.close()


async def run(engine: Engine, prompt: Prompt) -> Outcome:
    return await engine.execute(Job(id=f"job-{next(_ids)}", prompt=prompt), lambda _: None)


async def shown(engine: Engine, prompt: Prompt) -> dict[str, Any]:
    outcome = await run(engine, prompt)
    assert isinstance(outcome, Executed), outcome
    return dict(outcome.outputs)


@pytest.mark.parametrize("name", GRAPHS)
async def test_in_place_a_graph_gives_what_it_gives_without_cluster_nodes(engine: Engine, name: str) -> None:
    outputs = await shown(engine, GRAPHS[name])
    assert outputs["got"]["digest"]
    assert outputs["got"] == outputs["want"]


@pytest.mark.parametrize("name", FAILING)
async def test_what_cannot_be_is_said_in_a_sentence(engine: Engine, name: str) -> None:
    prompt, at, sentence = FAILING[name]
    outcome = await run(engine, prompt)
    assert isinstance(outcome, Errored), outcome
    assert outcome.error["node_id"] == at
    assert sentence in outcome.error["exception_message"]
    assert outcome.error["exception_type"].startswith("comfy_dist.")


async def test_info_tells_of_one_rank_also_where_another_pack_has_its_name(engine: Engine) -> None:
    prompt = {"info": node("ClusterInfo")} | {
        f"text {slot}": node("PreviewAny", source=["info", slot]) for slot in range(3)
    }
    outputs = await shown(engine, prompt)
    assert [outputs[f"text {slot}"]["text"] for slot in range(3)] == [["0"], ["1"], ["rank 0 of 1"]]


async def test_a_use_follows_what_changes_in_its_piece(engine: Engine) -> None:
    for by in (2.0, 3.0):
        graph = same("use", "sum", **subgraph(by=by), made=images(), **used("piece", "made", by))
        outputs = await shown(engine, graph)
        assert outputs["got"] == outputs["want"]


async def test_every_node_is_in_a_graph() -> None:
    there = {each["class_type"] for prompt in GRAPHS.values() for each in prompt.values()}
    public = {name for name in cluster.NODE_CLASS_MAPPINGS if name.startswith("Cluster")}
    assert public - there == ELSEWHERE
