"""The Distributed nodes: declared as workflows know them; nothing of a batch or a sound is lost or made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.engine.graph.object_info import object_info
from comfy_dist.engine.graph.registry import Registry
from comfy_dist.nodes import distributed, folders
from comfy_dist.nodes.distributed.collected import audio_of, images_of
from comfy_dist.nodes.distributed.dividers import AudioBatchDivider, ImageBatchDivider
from comfy_dist.nodes.distributed.model_name import ModelName
from comfy_dist.tensors.batches import UnusableBatch
from comfy_dist.workspace import Workspace

#: Class: required inputs and their defaults, optional ones, outputs.
NODES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "DistributedSeed": ({"seed": 1125899906842}, [], ["INT"]),
    "DistributedValue": ({"default_value": "", "worker_values": "{}"}, [], ["*"]),
    "DistributedCollector": ({"images": None}, ["load_balance", "audio"], ["IMAGE", "AUDIO"]),
    "DistributedModelName": ({"text": ""}, [], ["*"]),
    "ImageBatchDivider": ({"images": None, "divide_by": 2}, [], ["IMAGE"] * 10),
    "AudioBatchDivider": ({"audio": None, "divide_by": 2}, [], ["AUDIO"] * 10),
    "DistributedEmptyImage": ({"height": 64, "width": 64, "channels": 3}, [], ["IMAGE"]),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "_workspace", Workspace.at(folder))
        registry = Registry()
        registry.add(distributed.NODE_CLASS_MAPPINGS, distributed.NODE_DISPLAY_NAME_MAPPINGS, "nodes")
        return object_info(registry)


@pytest.mark.parametrize("name", NODES)
def test_a_node_is_declared_as_workflows_know_it(told: dict[str, Any], name: str) -> None:
    required, optional, outputs = NODES[name]
    found = told[name]
    inputs = found["input"]["required"]
    assert list(inputs) == list(required)
    assert {key: spec[1].get("default") if len(spec) > 1 else None for key, spec in inputs.items()} == required
    assert list(found["input"].get("optional", {})) == optional
    assert found["output"] == outputs
    assert found["output_node"] == (name == "DistributedModelName")
    assert found["display_name"]


def test_of_their_names_none_is_missing(told: dict[str, Any]) -> None:
    assert distributed.NODE_DISPLAY_NAME_MAPPINGS.keys() == {*NODES, "UltimateSDUpscaleDistributed"}
    assert all(told[name]["deprecated"] for name in told.keys() - distributed.NODE_DISPLAY_NAME_MAPPINGS.keys())


@given(st.integers(0, 30), st.integers(1, 10))
def test_a_batch_is_divided_into_parts_that_make_it(items: int, parts: int) -> None:
    whole = torch.arange(items, dtype=torch.float32).reshape(items, 1, 1, 1).expand(-1, 2, 3, 3)
    divided = ImageBatchDivider().divide(whole, parts)
    assert len(divided) == 10
    assert torch.equal(torch.cat(divided), whole)
    sizes = [part.shape[0] for part in divided]
    assert sizes[:parts] == [part.shape[0] for part in torch.tensor_split(whole, parts)]
    assert not any(sizes[parts:])


@given(st.integers(0, 30), st.integers(1, 10))
def test_a_sound_is_divided_into_parts_that_make_it(samples: int, parts: int) -> None:
    whole = {"waveform": torch.arange(2.0 * samples).reshape(1, 2, samples), "sample_rate": 8000, "more": "kept"}
    divided = AudioBatchDivider().divide(whole, parts)
    assert torch.equal(torch.cat([part["waveform"] for part in divided], dim=-1), whole["waveform"])
    assert all((part["sample_rate"], part["more"]) == (8000, "kept") for part in divided)
    assert audio_of([{"worker": "", "audio": [part]} for part in divided])["waveform"].equal(whole["waveform"])


@pytest.mark.parametrize(("text", "name"), [("a", "a"), (3, "3"), (["é"], '["é"]')])
def test_a_models_name_is_shown_and_given(text: Any, name: str) -> None:
    assert ModelName().show(text) == {"ui": {"text": [name]}, "result": (name,)}


# What shares have made


def images(*batches: torch.Tensor) -> list[dict[str, Any]]:
    return [{"worker": f"w{n}", "images": [batch], "audio": []} for n, batch in enumerate(batches)]


def sounds(*parts: tuple[tuple[int, ...], int]) -> list[dict[str, Any]]:
    return [
        {"worker": f"w{n}", "images": [], "audio": [{"waveform": torch.ones(shape), "sample_rate": rate}]}
        for n, (shape, rate) in enumerate(parts)
    ]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.sampled_from([1, 3, 4]))
def test_images_are_collected_in_the_order_of_shares(sizes: list[int], channels: int) -> None:
    """Where a share has none, their size says nothing."""
    batches = [torch.randn(size, 2, 3 if size else 1, channels) for size in sizes]
    collected = images_of(images(*batches))
    whole = [batch for batch in batches if batch.shape[0]]
    assert torch.equal(collected, torch.cat(whole) if whole else batches[0])


@pytest.mark.parametrize("shape", [(1, 4, 3, 3), (1, 2, 4, 3), (1, 2, 3, 4)])
def test_images_of_two_sizes_are_refused_with_both_workers(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnusableBatch, match=r"worker w0 are 3 x 2, 3 channels, and those of worker w2"):
        images_of(images(torch.zeros(1, 2, 3, 3), torch.zeros(0, 9, 9, 3), torch.zeros(shape)))


def test_what_is_no_image_is_refused_with_its_worker() -> None:
    with pytest.raises(UnusableBatch, match="of worker w1 is a tensor"):
        images_of(images(torch.zeros(1, 2, 3, 3), torch.zeros(2, 3)))


@pytest.mark.parametrize(
    ("parts", "shape"),
    [
        ([], (1, 2, 1)),
        ([((1, 1, 5), 8000)], (1, 1, 5)),
        ([((1, 1, 5), 8000), ((1, 2, 3), 8000), ((1, 1, 1), 8000)], (1, 2, 9)),
        ([((2, 6, 5), 8000), ((2, 6, 0), 8000)], (2, 6, 5)),
    ],
)
def test_sounds_are_collected_along_time(parts: list[tuple[tuple[int, ...], int]], shape: tuple[int, ...]) -> None:
    collected = audio_of(sounds(*parts))
    assert collected["waveform"].shape == shape
    assert collected["sample_rate"] == (8000 if parts else 44_100)
    assert bool(collected["waveform"].all()) is bool(parts)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (((1, 2, 5), 16000), "worker w0 is 8000, and that of worker w1 16000"),
        (((2, 2, 5), 8000), "worker w0 there are 1, and of worker w1 2"),
        (((1, 6, 5), 8000), "worker w1 has 6, and that of worker w0 2; only mono is repeated"),
        (((2, 5), 8000), "of worker w1 is"),
    ],
)
def test_sounds_that_are_none_together_are_refused_with_both_workers(
    other: tuple[tuple[int, ...], int], why: str
) -> None:
    with pytest.raises(UnusableBatch) as told:
        audio_of(sounds(((1, 2, 5), 8000), other))
    assert why in str(told.value)
