"""What the core nodes are, as /object_info tells it."""

from __future__ import annotations

from typing import Any

import pytest

from comfy_dist.engine.graph.object_info import object_info
from comfy_dist.engine.graph.registry import Registry
from comfy_dist.nodes import core, folders
from comfy_dist.workspace import Workspace


@pytest.fixture(scope="module")
def nodes_info(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    workspace = Workspace.at(tmp_path_factory.mktemp("workspace"))
    workspace.create()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "_workspace", workspace)
        registry = Registry()
        registry.add(core.NODE_CLASS_MAPPINGS, core.NODE_DISPLAY_NAME_MAPPINGS, "nodes")
        return object_info(registry)
