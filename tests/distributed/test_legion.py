"""A Legion Master has a saved workflow executed elsewhere, gives it data and gets data back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from comfy_dist.cli.legion import make_legion_engine
from comfy_dist.settings import ComfyuiWorkerSettings
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.workspace import Workspace
from tests.distributed.conftest import Workers, graph_engine, working
from tests.distributed.legion_graphs import commanded, config, images, save, scaled
from tests.support.talking import node

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    broker = MemoryBroker()
    folder = tmp_path_factory.mktemp("two")
    workspace = Workspace.at(folder / "workspace")
    make = make_legion_engine(ComfyuiWorkerSettings(cpu=True), workspace, "cpu")
    async with working(
        folder, 2, lambda: MemoryTransport(broker), graph_engine, legion_engine=make
    ) as workers:
        yield workers


@pytest.mark.parametrize("type_", ["local_process", "cluster"])
async def test_a_workflow_gives_back_what_it_makes(two: Workers, type_: str, tmp_path: Path) -> None:
    name = save(two, "scaled.json", scaled(log=tmp_path / "log"))
    prompt = images() | commanded(config(name, type_), input_1=["images", 0])
    prompt["digest"] = node("DistDigest", value=["master", 1])
    prompt["expected"] = node("DistScale", value=["images", 0], by=2.0, add=0.5)
    prompt["digest 2"] = node("DistDigest", value=["expected", 0])
    ran = await two.done(prompt)
    assert ran.digests["digest"] == ran.digests["digest 2"]
    print((tmp_path / "log").read_text())
