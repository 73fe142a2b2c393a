from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from comfy_dist.engine.graph import GraphEngine
from comfy_dist.workspace import Workspace

PACKS = Path(__file__).parent.parent / "packs"


@pytest.fixture(scope="session")
def engine_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace.at(tmp_path_factory.mktemp("engine"))
    workspace.create()
    for pack in ("testing_nodes", "dynamic_nodes", "schema_nodes", "contract_nodes"):
        shutil.copytree(PACKS / pack, workspace.custom_nodes / pack)
    return workspace


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_engine(engine_workspace: Workspace) -> AsyncIterator[GraphEngine]:
    engine = GraphEngine(engine_workspace)
    await engine.start()
    yield engine
    await engine.close()


@pytest_asyncio.fixture(loop_scope="session")
async def engine(shared_engine: GraphEngine) -> GraphEngine:
    """One child for all tests, started again where the last one killed it, with nothing cached."""
    await shared_engine.start()
    await shared_engine.free(unload_models=True, free_memory=True)
    return shared_engine
