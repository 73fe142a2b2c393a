"""What single Cluster nodes give, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.calls.planning import restore
from comfy_dist.nodes.cluster import NODE_CLASS_MAPPINGS
from comfy_dist.nodes.cluster.info import info_text
from comfy_dist.nodes.cluster.inputs import UnusableNumber
from comfy_dist.tensors.batches import UnusableBatch

CLOSING = [name for name in NODE_CLASS_MAPPINGS if name.startswith(("ClusterFanIn", "ClusterGather"))]


def call(name: str, **inputs: Any) -> Any:
    cls: Any = NODE_CLASS_MAPPINGS[name]
    return getattr(cls(), cls.FUNCTION)(**inputs)


def numbered(count: int) -> torch.Tensor:
    """Images whose pixels are their numbers."""
    return torch.arange(count, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(count, 2, 2, 3)


def numbers(images: torch.Tensor) -> list[int]:
    return [int(image[0, 0, 0]) for image in images]


def test_a_stride_takes_every_nth_from_each_of_the_first_n() -> None:
    (order,) = call("ClusterStridedReorder", image=numbered(7), stride=3)
    assert numbers(order) == [0, 3, 6, 1, 4, 2, 5]


def test_a_stride_beyond_the_images_costs_no_more_than_they_do() -> None:
    """A link may bring any number."""
    (order,) = call("ClusterStridedReorder", image=numbered(3), stride=2**62)
    assert numbers(order) == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "inputs", "least"),
    [
        ("ClusterStridedReorder", {"image": numbered(3), "stride": 0}, "stride is a whole number, 1 or more"),
        ("ClusterSplitBatchToList", {"image": numbered(3), "images_per_list_element": "2"}, "1 or more"),
        (
            "ClusterInsertAtIndex",
            {"batch": numbered(3), "images_to_insert": numbered(1), "insert_at_index": -3},
            "insert_at_index is a whole number, 0 or more; its link has brought -3.",
        ),
    ],
)
def test_numbers_that_only_links_can_bring_are_refused(name: str, inputs: dict[str, Any], least: str) -> None:
    with pytest.raises(UnusableNumber, match=least):
        call(name, **inputs)


@given(count=st.integers(0, 20), stride=st.integers(1, 128))
def test_a_stride_loses_no_image(count: int, stride: int) -> None:
    (order,) = call("ClusterStridedReorder", image=numbered(count), stride=stride)
    assert sorted(numbers(order)) == list(range(count))


@pytest.mark.parametrize(("index", "expected"), [(0, [7, 8, 0, 1, 2]), (2, [0, 1, 7, 8, 2]), (9, [0, 1, 2, 7, 8])])
def test_images_are_inserted_before_the_one_of_that_index(index: int, expected: list[int]) -> None:
    (inserted,) = call(
        "ClusterInsertAtIndex", batch=numbered(3), images_to_insert=numbered(2) + 7, insert_at_index=index
    )
    assert numbers(inserted) == expected


@given(count=st.integers(0, 20), size=st.integers(1, 64))
def test_a_batch_split_and_flattened_is_its_images(count: int, size: int) -> None:
    (parts,) = call("ClusterSplitBatchToList", image=numbered(count), images_per_list_element=size)
    assert [len(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert len(parts[-1]) <= size
    (images,) = call("ClusterFlattenBatchedImageList", images=parts)
    assert [numbers(image) for image in images] == [[number] for number in range(count)]


@pytest.mark.parametrize("name", CLOSING)
def test_a_closing_node_asks_for_its_input_only_where_nobody_made_its_results(name: str) -> None:
    cls: Any = NODE_CLASS_MAPPINGS[name]
    assert cls().check_lazy_status(input=[None]) == ["input"]
    assert cls().check_lazy_status(input=[None], results=[numbered(1)]) == []


def test_results_of_ranks_are_fanned_in_and_gathered() -> None:
    results = [numbered(2), numbered(1)]
    (joined,) = call("ClusterFanInImages", input=[None], results=results)
    assert numbers(joined) == [0, 1, 0]
    assert call("ClusterGatherImages", input=[None], results=results) == (results,)
    assert call("ClusterGatherImages", input=[None], results=[]) == ([],)


def test_nothing_cannot_be_fanned_in() -> None:
    with pytest.raises(UnusableBatch, match="nothing to join"):
        call("ClusterFanInImages", input=[])


def test_what_was_made_in_its_place_is_handed_on_by_a_use() -> None:
    made = [numbered(1)]
    assert call(
        "ClusterUseSubgraph", image=[None], subgraph_id=["a"], prompt=[None], node_id=["1"], results=made
    ) == (made,)


@pytest.mark.parametrize("name", ["ClusterUseSubgraph", "ClusterListenTensorBroadcast"])
def test_what_is_planned_is_cached_as_its_source_is(name: str) -> None:
    cls: Any = NODE_CLASS_MAPPINGS[name]
    assert cls.IS_CHANGED(results=[None]) == cls.IS_CHANGED(results=[None])
    assert cls.IS_CHANGED() != cls.IS_CHANGED()


def test_a_broadcast_that_others_hear_is_made_each_time() -> None:
    cls: Any = NODE_CLASS_MAPPINGS["ClusterBroadcastTensor"]
    assert cls.IS_CHANGED(input=[None], channel=["a"]) == cls.IS_CHANGED(input=[None], channel=["a"])
    assert cls.IS_CHANGED(input=[None], publish=[True]) != cls.IS_CHANGED(input=[None], publish=[True])


@pytest.mark.parametrize("name", ["ClusterUseSubgraph", "ClusterListenTensorBroadcast", *CLOSING])
def test_what_a_plan_adds_is_no_input_that_people_see(name: str) -> None:
    cls: Any = NODE_CLASS_MAPPINGS[name]
    declared = cls.INPUT_TYPES()
    assert "results" in declared["hidden"]
    assert "results" not in {**declared.get("required", {}), **declared.get("optional", {})}
    planned = {"1": {"class_type": name, "inputs": {"results": ["2", 0]}}}
    assert restore(planned)["1"]["inputs"] == {}


def test_info_is_the_same_whatever_the_workers_do() -> None:
    workers = [
        {"name": name, "engine": "graph", "devices": devices, "state": state}
        for name, devices, state in (("b", ["cuda:0 A", "cuda:1 B"], "busy"), ("a", ["cpu"], "idle"))
    ]
    text = "rank 1 of 2\n2 workers:\na: graph on cpu\nb: graph on cuda:0 A, cuda:1 B"
    assert info_text(1, 2, workers) == text
    assert info_text(1, 2, [{**worker, "state": "idle"} for worker in workers]) == text
    assert info_text(0, 1, workers[1:]) == "rank 0 of 1\n1 worker:\na: graph on cpu"
    assert info_text(0, 1, []) == "rank 0 of 1"
