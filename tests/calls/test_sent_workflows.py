"""A workflow that is sent to other workers is what it was, with the image it is given, and sends nothing anew."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.calls.sent_workflows import (
    ExecutesItself,
    called_within,
    gives_way,
    in_place,
    listeners,
    tuned_to,
    within,
    without_execute_current,
)


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


CURRENT = {
    "1": node("LoadImage", image="a.png"),
    "2": node("ClusterExecuteCurrentWorkflow", image=["1", 0], target="all"),
    "3": node("ClusterExecuteCurrentWorkflow", image=["2", 0], target="any"),
    "4": node("SaveImage", images=["3", 0], filename_prefix="x"),
    "5": node("PreviewAny", source=["2", 1]),
}


def test_nodes_that_execute_the_current_workflow_pass_their_image_through() -> None:
    before = copy.deepcopy(CURRENT)
    assert without_execute_current(CURRENT) == {
        "1": CURRENT["1"],
        "4": node("SaveImage", images=["1", 0], filename_prefix="x"),
        "5": node("PreviewAny", source={"__value__": []}),
    }
    assert before == CURRENT


def test_nodes_that_pass_each_other_their_image_give_none() -> None:
    circle = {
        "1": node("ClusterExecuteCurrentWorkflow", image=["2", 0]),
        "2": node("ClusterExecuteCurrentWorkflow", image=["1", 0]),
        "3": node("SaveImage", images=["2", 0]),
    }
    assert without_execute_current(circle) == {"3": node("SaveImage", images={"__value__": []})}


LINKS = st.lists(st.sampled_from("123456"), min_size=1, max_size=1).map(lambda ids: [ids[0], 0])
NODES = st.builds(
    lambda class_type, image: node(class_type, image=image),
    st.sampled_from(["ClusterExecuteCurrentWorkflow", "ImageInvert", "SaveImage"]),
    LINKS | st.integers(),
)


@given(st.dictionaries(st.sampled_from("123456"), NODES))
def test_what_is_sent_never_executes_the_current_workflow_again(prompt: dict[str, Any]) -> None:
    sent = without_execute_current(prompt)
    assert {id_: each["class_type"] for id_, each in sent.items()} == {
        id_: each["class_type"]
        for id_, each in prompt.items()
        if each["class_type"] != "ClusterExecuteCurrentWorkflow"
    }
    for each in sent.values():
        image = each["inputs"]["image"]
        assert not isinstance(image, list) or image[0] in sent or image[0] not in prompt


LISTENING = {
    "1": node("ClusterListenTensorBroadcast"),
    "2": node("ClusterListenTensorBroadcast", channel="default"),
    "3": node("ClusterListenTensorBroadcast", channel="masks"),
    "4": node("ImageBatch", image1=["1", 0], image2=["2", 0]),
    "5": node("SaveImage", images=["4", 0]),
    "6": node("SaveImage", images=["3", 0]),
}


def test_the_default_channel_brings_the_image() -> None:
    assert listeners(LISTENING) == {"1", "2"}
    tuned = tuned_to("image 5", LISTENING)
    assert [tuned[each]["inputs"]["channel"] for each in "123"] == ["image 5", "image 5", "masks"]
    assert "channel" not in LISTENING["1"]["inputs"]


@pytest.mark.parametrize("broadcast", [node("ClusterBroadcastTensor"), node("ClusterBroadcastLoadedImage")])
def test_a_workflow_that_broadcasts_itself_hears_itself(broadcast: Any) -> None:
    own = {**LISTENING, "7": broadcast}
    assert listeners(own) == frozenset()
    assert tuned_to("image 5", own) == own
    elsewhere = {**LISTENING, "7": node("ClusterBroadcastTensor", channel="masks")}
    assert listeners(elsewhere) == {"1", "2"}


def test_in_place_the_image_is_linked() -> None:
    assert in_place(LISTENING, ["5"], "9.workflow", ["8", 0], shown=False) == {
        "9.workflow.4": node("ImageBatch", image1=["8", 0], image2=["8", 0]),
        "9.workflow.5": node("SaveImage", images=["9.workflow.4", 0]),
    }


def test_in_place_the_current_workflow_is_shown_where_it_is() -> None:
    graph = in_place(without_execute_current(CURRENT), ["4", "5"], "2.workflow", ["1", 0], shown=True)
    assert {id_: each["override_display_id"] for id_, each in graph.items()} == {
        "2.workflow.1": "1",
        "2.workflow.4": "4",
        "2.workflow.5": "5",
    }
    assert graph["2.workflow.5"]["inputs"] == {"source": {"__value__": []}}


def test_in_place_named_subgraphs_and_channels_are_those_of_the_workflow() -> None:
    workflow = {
        "1": node("LoadImage", image="a.png"),
        "2": node("ClusterStartSubgraph", image=["1", 0], subgraph_id="negative"),
        "3": node("ImageInvert", image=["2", 0]),
        "4": node("ClusterEndSubgraph", image=["3", 0]),
        "5": node("ClusterUseSubgraph", image=["4", 0], subgraph_id="negative"),
        "6": node("ClusterBroadcastTensor", input=["5", 0], channel="masks"),
        "7": node("ClusterListenTensorBroadcast", channel="masks"),
        "8": node("SaveImage", images=["7", 0]),
    }
    graph = in_place(workflow, ["8"], "9.workflow", ["1", 0], shown=False)
    assert graph["9.workflow.7"]["inputs"]["results"] == ["9.workflow.6", 0]
    [clone] = [id_ for id_, each in graph.items() if each == node("ImageInvert", image=["9.workflow.4", 0])]
    assert graph["9.workflow.5"]["inputs"]["results"] == [clone, 0]


NAMES = st.sampled_from("abcde")


@given(st.dictionaries(NAMES, st.frozensets(NAMES)))
def test_one_worker_of_every_circle_gives_way_and_no_other(waits: dict[str, frozenset[str]]) -> None:
    def reached(start: str) -> set[str]:
        found = set(waits.get(start, ()))
        while more := {other for each in found for other in waits.get(each, ())} - found:
            found |= more
        return found

    graph = {name: sorted(each) for name, each in waits.items()}
    stuck = {name for name in waits if name in reached(name)}
    yielding = {name for name in waits if gives_way(name, graph)}
    assert yielding <= stuck
    # Without those that give way nobody waits in a circle any more.
    waits = {name: each - yielding for name, each in waits.items() if name not in yielding}
    assert not any(name in reached(name) for name in waits)


def test_a_workflow_that_executes_itself_is_refused() -> None:
    assert called_within({}, "a.json") == ("a.json",)
    inner = within({"1": node("ClusterExecuteWorkflow", workflow_path="b.json")}, ("a.json",))
    names = called_within(inner["1"]["inputs"], "default/workflows/b.json")
    assert names == ("a.json", "b.json")
    innermost = within({"1": node("ClusterExecuteWorkflow", workflow_path=["2", 0])}, names)
    with pytest.raises(ExecutesItself, match=r"a\.json → b\.json → a\.json"):
        called_within(innermost["1"]["inputs"], "a.json")
