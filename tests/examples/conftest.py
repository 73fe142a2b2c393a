"""Workers that execute the examples, and the pictures that these load."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from comfy_dist.cli.legion import make_legion_engine
from comfy_dist.settings import ComfyuiWorkerSettings
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.workspace import Workspace
from tests.distributed.conftest import Workers, graph_engine, working
from tests.support.processes import REPOSITORY

EXAMPLES = REPOSITORY / "examples"


async def workers(folder: Path, count: int) -> AsyncIterator[Workers]:
    """They execute Legion workflows in processes of their own too."""
    workspace = Workspace.at(folder / "workspace")
    shutil.copytree(EXAMPLES / "input", workspace.input)
    shutil.copytree(EXAMPLES / "legion/workflows", workspace.user / "default/ComfyUI-LegionPower/workflows")
    make = make_legion_engine(ComfyuiWorkerSettings(cpu=True), workspace, "cpu")
    broker = MemoryBroker()
    async with working(folder, count, lambda: MemoryTransport(broker), graph_engine, legion_engine=make) as found:
        yield found


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def three(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    async for found in workers(tmp_path_factory.mktemp("three"), 3):
        yield found


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def one(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    async for found in workers(tmp_path_factory.mktemp("one"), 1):
        yield found
