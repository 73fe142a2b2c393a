"""What pages and clients are told of the Remote nodes, so that workflows made elsewhere load as they are."""

from __future__ import annotations

from typing import Any

import pytest

from comfy_dist.engine.graph.object_info import object_info
from comfy_dist.engine.graph.registry import Registry
from comfy_dist.nodes import folders, remote
from comfy_dist.workspace import Workspace

IMAGE, TEXT = ["IMAGE"], ["STRING", {"default": ""}]
REMOTE_URL = {"remote_url": ["STRING", {"default": "http://127.0.0.1:8288/"}]}
TRIGGER = {"trigger": [["on_change", "always"]]}
SEED = {"seed": ["INT", {"default": 0, "min": 0, "max": 2**64 - 1}]}
ENABLED = {"enabled": [["true", "false", "remote"], {"default": "true"}]}


def few(default: int, least: int) -> list[Any]:
    return ["INT", {"default": default, "min": least, "max": 8}]


def prefix(default: str) -> dict[str, Any]:
    return {"filename_prefix": ["STRING", {"default": default}]}


#: Class: display name, category, required inputs in order, {output's name: type}.
NODES: dict[str, tuple[str, str, dict[str, Any], dict[str, str]]] = {
    "RemoteQueueSimple": (
        "Queue on remote (single)",
        "remote",
        {**REMOTE_URL, "batch_local": few(1, 1), "batch_remote": few(1, 1), **TRIGGER, **ENABLED, **SEED},
        {"seed": "INT", "batch": "INT", "remote_info": "REMINFO"},
    ),
    "FetchRemote": (
        "Fetch from remote",
        "remote",
        {"final_image": IMAGE, "remote_info": ["REMINFO"]},
        {"IMAGE": "IMAGE"},
    ),
    "RemoteChainStart": (
        "Queue on remote (start of chain)",
        "remote/advanced",
        {"workflow": ["JSON"], **TRIGGER, "batch": few(1, 1), **SEED},
        {"remote_chain": "REMCHAIN"},
    ),
    "RemoteQueueWorker": (
        "Queue on remote (worker)",
        "remote/advanced",
        {
            "remote_chain": ["REMCHAIN"],
            **REMOTE_URL,
            "batch_override": few(0, 0),
            **ENABLED,
            "outputs": [["final_image", "any"], {"default": "final_image"}],
        },
        {"remote_chain": "REMCHAIN", "remote_info": "REMINFO"},
    ),
    "RemoteChainEnd": (
        "Queue on remote (end of chain)",
        "remote/advanced",
        {"remote_chain": ["REMCHAIN"]},
        {"seed": "INT", "batch": "INT"},
    ),
    "LoadImageUrl": ("Load Image (URL)", "remote/image", {"url": TEXT}, {"IMAGE": "IMAGE", "MASK": "MASK"}),
    "SaveImageUrl": (
        "Save Image (URL)",
        "remote/image",
        {"images": IMAGE, "url": TEXT, **prefix("ComfyUI"), "data_format": [["HTML_image", "Raw_data"]]},
        {},
    ),
    "CombineImageBatch": (
        "Combine images",
        "remote/image",
        {"images_a": IMAGE, "images_b": IMAGE},
        {"images": "IMAGE"},
    ),
    "LoadLatentNumpy": (
        "Load Latent (Numpy)",
        "remote/latent",
        {"latent": [["a.npy"]]},
        {"LATENT": "LATENT"},
    ),
    "SaveLatentNumpy": (
        "Save Latent (Numpy)",
        "remote/latent",
        {"samples": ["LATENT"], **prefix("latents/ComfyUI")},
        {"filename": "STRING"},
    ),
    "LoadLatentUrl": ("Load Latent (URL)", "remote/latent", {"url": TEXT}, {"LATENT": "LATENT"}),
    "SaveDiskWorkflowJSON": (
        "Save workflow (disk)",
        "remote/advanced",
        {"workflow": ["JSON"], **prefix("workflow/ComfyUI")},
        {},
    ),
    "LoadDiskWorkflowJSON": (
        "Load workflow (disk)",
        "remote/advanced",
        {"workflow": [["a.json"]]},
        {"Workflow JSON": "JSON"},
    ),
    "LoadCurrentWorkflowJSON": ("Load workflow (current)", "remote/advanced", {}, {"Workflow JSON": "JSON"}),
}
SAVING = {"SaveImageUrl", "SaveLatentNumpy", "SaveDiskWorkflowJSON"}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    workspace = Workspace.at(tmp_path_factory.mktemp("workspace"))
    workspace.create()
    for name in ("a.npy", "a.json"):
        (workspace.input / name).touch()
    folders.use(workspace)
    registry = Registry()
    registry.add(remote.NODE_CLASS_MAPPINGS, remote.NODE_DISPLAY_NAME_MAPPINGS, "pack")
    return object_info(registry)


def test_there_are_these_nodes_and_hidden_ones(told: dict[str, Any]) -> None:
    assert len(NODES) == 14
    assert {name for name in told if not told[name].get("deprecated")} == NODES.keys()


@pytest.mark.parametrize("name", NODES)
def test_a_node_is_declared_as_workflows_know_it(told: dict[str, Any], name: str) -> None:
    display, category, required, outputs = NODES[name]
    found = told[name]
    own = found["input"].get("required", {})
    # That it may be asked for later changes nothing for workflows.
    plain = {key: [each for each in kind if each != {"lazy": True}] for key, kind in own.items()}
    assert (found["display_name"], found["category"]) == (display, category)
    assert plain == required
    assert list(plain) == list(required)
    assert dict(zip(found["output_name"], found["output"], strict=True)) == outputs
    assert found["output_node"] == (name in SAVING)
