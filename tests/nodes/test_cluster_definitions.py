"""What pages and clients are told of the Cluster nodes, so that workflows made elsewhere load as they are."""

from __future__ import annotations

from typing import Any

import pytest

from comfy_dist.engine.graph.object_info import object_info
from comfy_dist.engine.graph.registry import Registry
from comfy_dist.nodes import cluster, folders
from comfy_dist.workspace import Workspace

ANY = ["*"]
IMAGE = ["IMAGE"]
CHANNEL = {"channel": ["STRING", {"default": "default"}]}
CHUNKS = {"chunks_per_worker": ["INT", {"default": 4, "min": 1, "max": 64}]}
SWITCH = ["BOOLEAN", {"default": True}]
FREEING = {"anything": ANY, "unload_models": SWITCH, "free_memory": SWITCH}
NAME = {"subgraph_id": ["STRING", {"default": "subgraph_id"}]}
TARGET = {"target": [["all", "any"], {"default": "all"}]}


def whole(default: int, least: int, most: int) -> list[Any]:
    return ["INT", {"default": default, "min": least, "max": most}]


def closing(kind: str) -> dict[str, Any]:
    return {"input": [kind, {"lazy": True}]}


#: Class: display name, required, optional, outputs; a `[kind]` is a list.
NODES: dict[str, tuple[str, dict[str, Any], dict[str, Any], list[Any]]] = {
    "ClusterInfo": ("Cluster Info", {}, {}, ["INT", "INT", "STRING"]),
    "ClusterFreeNow": ("Cluster Free Now", FREEING, {}, ["*"]),
    "ClusterFinallyFree": ("Cluster Finally Free", FREEING, {}, []),
    "ClusterExecuteWorkflow": (
        "Cluster Execute Workflow",
        {"workflow_path": [["workflow.json"], {"default": "workflow.json"}], "image": IMAGE},
        {"inputs": ["STRING", {"default": "", "multiline": True}], **TARGET},
        ["IMAGE", "*"],
    ),
    "ClusterExecuteCurrentWorkflow": (
        "Cluster Execute Current Workflow",
        {"image": IMAGE},
        TARGET,
        ["IMAGE", "*"],
    ),
    "ClusterStartSubgraph": ("Cluster Start Subgraph", {"image": IMAGE, **NAME}, {}, ["IMAGE"]),
    "ClusterEndSubgraph": ("Cluster End Subgraph", {"image": IMAGE}, {}, ["IMAGE"]),
    "ClusterUseSubgraph": (
        "Cluster Use Subgraph",
        {"image": ["IMAGE", {"lazy": True}], **NAME},
        {},
        [["IMAGE"]],
    ),
    "ClusterBroadcastTensor": ("Cluster Broadcast Tensor", {"input": ANY}, CHANNEL, [["*"]]),
    "ClusterListenTensorBroadcast": ("Cluster Listen Tensor Broadcast", {}, CHANNEL, [["IMAGE"]]),
    "ClusterBroadcastLoadedImage": (
        "Cluster Broadcast Loaded Image",
        {"image": [["a.png"], {"image_upload": True}]},
        {},
        ["IMAGE"],
    ),
    "ClusterFanOutImage": ("Cluster Fan Out Image", {"input": ["IMAGE"]}, CHUNKS, ["IMAGE"]),
    "ClusterFanOutLatent": ("Cluster Fan Out Latent", {"input": ["LATENT"]}, CHUNKS, ["LATENT"]),
    "ClusterFanOutMask": ("Cluster Fan Out Mask", {"input": ["MASK"]}, CHUNKS, ["MASK"]),
    "ClusterFanInImages": ("Cluster Fan In Images", closing("IMAGE"), {}, ["IMAGE"]),
    "ClusterFanInLatent": ("Cluster Fan In Latent", closing("LATENT"), {}, ["LATENT"]),
    "ClusterFanInMask": ("Cluster Fan In Mask", closing("MASK"), {}, ["MASK"]),
    "ClusterGatherImages": ("Cluster Gather Images", closing("IMAGE"), {}, [["IMAGE"]]),
    "ClusterGatherLatents": ("Cluster Gather Latents", closing("LATENT"), {}, [["LATENT"]]),
    "ClusterGatherMasks": ("Cluster Gather Masks", closing("MASK"), {}, [["MASK"]]),
    "ClusterGetInstanceWorkItemFromBatch": (
        "Cluster Get Instance Work Item From Batch",
        {"images": ANY},
        {"index_offset": whole(0, 0, 10_000)},
        [["*"]],
    ),
    "ClusterSplitBatchToList": (
        "Cluster Split Batch To List",
        {"image": IMAGE, "images_per_list_element": whole(2, 1, 64)},
        {},
        [["IMAGE"]],
    ),
    "ClusterFlattenBatchedImageList": (
        "Cluster Flatten Batched Image List",
        {"images": IMAGE},
        {},
        [["IMAGE"]],
    ),
    "ClusterInsertAtIndex": (
        "Cluster Insert At Index",
        {"batch": IMAGE, "images_to_insert": IMAGE, "insert_at_index": whole(0, 0, 10_000)},
        {},
        ["IMAGE"],
    ),
    "ClusterStridedReorder": (
        "Cluster Strided Reorder",
        {"image": IMAGE, "stride": whole(2, 1, 128)},
        {},
        ["IMAGE"],
    ),
}
IMAGE_TOOLS = {name for name in NODES if name.endswith(("ToList", "ImageList", "AtIndex", "Reorder"))}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    workspace = Workspace.at(tmp_path_factory.mktemp("workspace"))
    workspace.create()
    (workspace.input / "a.png").touch()
    folders.use(workspace)
    registry = Registry()
    registry.add(cluster.NODE_CLASS_MAPPINGS, cluster.NODE_DISPLAY_NAME_MAPPINGS, "pack")
    return object_info(registry)


def test_there_are_these_nodes_and_hidden_ones(told: dict[str, Any]) -> None:
    assert len(NODES) == 25
    assert {name for name in told if not name.startswith("ComfyDist")} == NODES.keys()
    assert all(told[name]["deprecated"] for name in told.keys() - NODES.keys())
    assert cluster.NODE_DISPLAY_NAME_MAPPINGS.keys() == NODES.keys()


@pytest.mark.parametrize("name", NODES)
def test_a_node_is_declared_as_workflows_know_it(told: dict[str, Any], name: str) -> None:
    display, required, optional, outputs = NODES[name]
    found = told[name]
    assert found["display_name"] == display
    assert found["category"] == ("Cluster/Image" if name in IMAGE_TOOLS else "Cluster")
    assert found["input"].get("required", {}) == required
    assert list(found["input"].get("required", {})) == list(required)
    assert found["input"].get("optional", {}) == optional
    assert found["output"] == [kind[0] if isinstance(kind, list) else kind for kind in outputs]
    assert found["output_is_list"] == [isinstance(kind, list) for kind in outputs]
    assert found["output_node"] == (name in {"ClusterFreeNow", "ClusterFinallyFree"})


def test_outputs_are_named(told: dict[str, Any]) -> None:
    assert told["ClusterInfo"]["output_name"] == ["Instance Index", "Instance Count", "info"]
    assert told["ClusterExecuteWorkflow"]["output_name"] == ["IMAGE", "results"]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("ClusterBroadcastTensor", {"publish": [True]}),
        ("ClusterBroadcastLoadedImage", {"image": "a.png", "publish": True}),
        ("ClusterListenTensorBroadcast", {}),
        ("ComfyDistRank", {}),
        ("ComfyDistHand", {}),
    ],
)
def test_what_is_never_cached_has_a_key_that_equals_no_other(name: str, given: dict[str, Any]) -> None:
    """As ComfyUI's caches compare keys: within a tuple one and the same NaN would be equal to itself."""
    node = cluster.NODE_CLASS_MAPPINGS[name]
    keys = [(name, node.IS_CHANGED(**given)) for _ in range(2)]
    assert keys[0] != keys[1]
