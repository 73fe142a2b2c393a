"""What pages and clients are told of the Legion nodes, so that workflows made elsewhere load as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from comfy_dist.calls.legion_configuration import TEMPLATE
from comfy_dist.engine.graph.object_info import object_info
from comfy_dist.engine.graph.registry import Registry
from comfy_dist.nodes import folders, legion
from comfy_dist.workspace import Workspace

ANY = ["*"]
CONFIG, CAMPAIGN = "LEGION_CONFIG", "LEGION_CAMPAIGN"
GIVEN = {"legion_config": [CONFIG], "legion_campaign": [CAMPAIGN]}
ROOT = {"data_exchange_root": ["STRING", {"default": "", "forceInput": True}]}


def channels(name: str, count: int) -> dict[str, Any]:
    return {f"{name}_{each}": ANY for each in range(1, count + 1)}


#: Class: display name, required, optional, outputs with their types.
NODES: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, str]]] = {
    "LegionConfig": (
        "Legion: Configuration",
        {"config_yaml": ["STRING", {"default": TEMPLATE, "multiline": True}]},
        {},
        {"legion_config": CONFIG},
    ),
    **{
        name: (
            f"Legion: Master ({count} channels)",
            {},
            GIVEN | channels("input", count),
            {"legion_campaign": CAMPAIGN, **dict.fromkeys(channels("output", count), "*")},
        )
        for name, count in (("LegionMaster3", 3), ("LegionMaster6", 6), ("LegionMaster", 12))
    },
    "LegionWarmup": ("Legion: Warmupper", {"legion_config": [CONFIG]}, {}, {"legion_campaign": CAMPAIGN}),
    "LegionJoin": (
        "Legion: Join Campaign",
        {"legion_campaign": [CAMPAIGN]},
        {},
        dict.fromkeys(channels("output", 12), "*"),
    ),
    "LegionJoinAll": (
        "Legion: Join All Campaigns",
        {"campaign_1": [CAMPAIGN]},
        {f"campaign_{each}": [CAMPAIGN] for each in (2, 3, 4)},
        {f"campaign_{each}": CAMPAIGN for each in (1, 2, 3, 4)},
    ),
    "LegionImporter": (
        "Legion: Importer",
        {},
        ROOT,
        dict.fromkeys(channels("output", 5), "*")
        | {"data_exchange_root": "STRING"}
        | {f"output_{each}": "*" for each in range(6, 13)},
    ),
    "LegionExporter": ("Legion: Exporter", {}, ROOT | channels("input", 12), {}),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    workspace = Workspace.at(tmp_path_factory.mktemp("workspace"))
    workspace.create()
    folders.use(workspace)
    registry = Registry()
    registry.add(legion.NODE_CLASS_MAPPINGS, legion.NODE_DISPLAY_NAME_MAPPINGS, "pack")
    return object_info(registry)


def test_there_are_these_nodes_and_a_hidden_one(told: dict[str, Any]) -> None:
    assert legion.NODE_DISPLAY_NAME_MAPPINGS.keys() == NODES.keys()
    assert told.keys() - NODES.keys() == {"ComfyDistKept"}
    assert told["ComfyDistKept"]["deprecated"]


@pytest.mark.parametrize("name", NODES)
def test_a_node_is_declared_as_workflows_know_it(told: dict[str, Any], name: str) -> None:
    display, required, optional, outputs = NODES[name]
    found = told[name]
    assert found["display_name"] == display
    assert found["category"] == ("Legion/IO" if name in ("LegionImporter", "LegionExporter") else "Legion")
    for kind, inputs in (("required", required), ("optional", optional)):
        assert found["input"].get(kind, {}) == inputs
        assert list(found["input"].get(kind, {})) == list(inputs)
    assert found["output_name"] == list(outputs)
    assert found["output"] == list(outputs.values())
    assert found["output_node"] == (name in ("LegionExporter", "LegionWarmup"))


def test_a_configuration_is_the_same_as_long_as_its_workflow_is_known_to_be(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    workspace.create()
    folders.use(workspace)
    for user in ("default", "ada"):
        (workspace.user / user / "workflows").mkdir(parents=True)
        changed = [legion.configuring.LegionConfig.IS_CHANGED("workflow: a.json") for _ in range(2)]
        # No such file; then one; then it may be anybody's.
        assert changed[0] != changed[1]
        (workspace.user / user / "workflows/a.json").write_text(user)
        changed = [legion.configuring.LegionConfig.IS_CHANGED("workflow: a.json") for _ in range(2)]
        assert (changed[0] == changed[1]) == (user == "default")
