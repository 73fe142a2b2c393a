"""What is refused, what is left alone, and how much work it is to plan."""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_dist.calls.classes import CLOSERS, OPENERS
from comfy_dist.calls.errors import RegionError
from comfy_dist.calls.layout import Layout, UnreadableLayout
from comfy_dist.calls.planning import plan, restore
from comfy_dist.calls.runs import MOST_LINKS
from tests.calls.toy import FAN_IN, FAN_OUT, GATHER, NODES, WORK_ITEM, node

LOADED = {"1": node("Load", seed=1, size=4)}
OPENED = {**LOADED, "2": node(FAN_OUT, input=["1", 0])}


def use(name: Any, image: str = "1") -> dict[str, Any]:
    return node("ClusterUseSubgraph", image=[image, 0], subgraph_id=name)


def start(name: str, image: str = "1") -> dict[str, Any]:
    return node("ClusterStartSubgraph", image=[image, 0], subgraph_id=name)


def mapped(source: str, **inputs: Any) -> dict[str, Any]:
    return node("Map", image=[source, 0], by=1, **inputs)


def end(source: str) -> dict[str, Any]:
    return node("ClusterEndSubgraph", image=[source, 0])


def save(source: str) -> dict[str, Any]:
    return node("Save", image=[source, 0])


def layout_of(prompt: dict[str, Any], run: str, targets: tuple[str, ...] = ()) -> Layout:
    planned = plan(prompt, NODES, targets)
    assert planned is not None
    return Layout.from_json(planned.prompt[run]["inputs"]["layout"])


REFUSED = {
    "a closing node without an opening one": (
        {**LOADED, "2": node(FAN_IN, input=["1", 0]), "3": save("2")},
        "2",
        "Node 2 (ClusterFanInImages) closes a region, but what it is given comes from no node that opens one.",
    ),
    "one region closed twice": (
        {**OPENED, "3": node(FAN_IN, input=["2", 0]), "4": node(GATHER, input=["3", 0]), "5": save("4")},
        "4",
        "Node 4 (ClusterGatherImages) closes a region, but",
    ),
    "a part and the joined whole": (
        {
            **OPENED,
            "3": node(FAN_IN, input=["2", 0]),
            "4": mapped("3"),
            "5": {**node("Zip", image=["2", 0], other=["4", 0]), "_meta": {"title": "Blend"}},
            "6": save("5"),
        },
        "5",
        "Node 5 (“Blend”, Zip) takes a rank's part of the region that node 2 (ClusterFanOutImage) opens, and also "
        "what 3 (ClusterFanInImages) makes of all its parts, through 4 (Map).",
    ),
    "parts that were opened in different places": (
        {
            **OPENED,
            "3": node(FAN_OUT, input=["2", 0]),
            "4": node(FAN_OUT, input=["1", 0]),
            "5": node("Zip", image=["3", 0], other=["4", 0]),
            "6": save("5"),
        },
        "5",
        "Node 5 (Zip) takes parts of two regions that cross: those of 3 (ClusterFanOutImage) and 4",
    ),
    "a cycle": (
        {**OPENED, "3": node("Zip", image=["2", 0], other=["4", 0]), "4": mapped("3"), "5": save("4")},
        "3",
        "These nodes wait for each other: ",
    ),
    "a cycle through a channel": (
        {
            "1": node("ClusterListenTensorBroadcast", channel="c"),
            "2": mapped("1"),
            "3": node("ClusterBroadcastTensor", input=["2", 0], channel="c"),
            "4": save("3"),
        },
        "2",
        "These nodes wait for each other: ",
    ),
    "a cycle of nothing but subgraphs": (
        {**LOADED, "2": start("s"), "3": end("2"), "4": use("s", "5"), "5": use("s", "4"), "6": save("5")},
        "5",
        "These nodes wait for each other: ",
    ),
    "two broadcasts on a channel": (
        {
            **LOADED,
            "2": node("ClusterBroadcastTensor", input=["1", 0]),
            "3": node("ClusterBroadcastTensor", input=["1", 0], channel="default"),
            "4": node("ClusterListenTensorBroadcast"),
            "5": save("4"),
        },
        "4",
        "Node 4 (ClusterListenTensorBroadcast) listens to channel 'default', and nodes 2, 3 broadcast on it.",
    ),
    "a subgraph that does not exist": (
        {**LOADED, "2": start("other"), "3": end("2"), "4": use("one"), "5": save("4")},
        "4",
        "Node 4 uses the subgraph 'one', which nothing in this workflow starts. Give a ClusterStartSubgraph that "
        "subgraph_id, or use one that is there: 'other'.",
    ),
    "two subgraphs of one name": (
        {**LOADED, "2": start("s"), "3": end("2"), "4": start("s"), "5": end("4"), "6": use("s"), "7": save("6")},
        "6",
        "Node 6 uses the subgraph 's', and nodes 2, 4 all start one of that subgraph_id.",
    ),
    "a subgraph that never ends": (
        {**LOADED, "2": start("s"), "3": use("s"), "4": save("3")},
        "2",
        "The subgraph 's' that node 2 (ClusterStartSubgraph) starts has no ClusterEndSubgraph behind it.",
    ),
    "a subgraph that ends twice": (
        {**LOADED, "2": start("s"), "3": end("2"), "4": end("2"), "5": use("s"), "6": save("5")},
        "2",
        "The subgraph 's' that node 2 (ClusterStartSubgraph) starts has several ends: nodes 3, 4.",
    ),
    "a subgraph that contains itself": (
        {
            **LOADED,
            "2": start("a"),
            "3": use("b", "2"),
            "4": end("3"),
            "5": start("b"),
            "6": use("a", "5"),
            "7": end("6"),
            "8": save("4"),
        },
        "3",
        "Node 3 uses a subgraph that contains itself: 'b' → 'a' → 'b'.",
    ),
    "subgraphs without measure": (
        {
            **LOADED,
            **{
                key: each
                for level in range(30)
                for key, each in {
                    f"{level}.start": start(f"s{level}"),
                    f"{level}.one": use(f"s{level + 1}", f"{level}.start") if level < 29 else mapped("29.start"),
                    f"{level}.two": use(f"s{level + 1}", f"{level}.one") if level < 29 else mapped("29.one"),
                    f"{level}.end": end(f"{level}.two"),
                }.items()
            },
            "use": use("s0"),
            "save": save("use"),
        },
        "use",
        "The subgraphs used in this workflow come to more than 20000 nodes, at node use.",
    ),
    "regions without measure": (
        {
            **LOADED,
            **{str(at): node(FAN_OUT, input=[str(at - 1), 0]) for at in range(2, 19)},
            "save": save("18"),
        },
        "18",
        "Node 18 (ClusterFanOutImage) opens a region inside of 16 others.",
    ),
    "too many values from outside": (
        {
            **OPENED,
            **{f"v{at}": node("Load", seed=at, size=1) for at in range(MOST_LINKS)},
            "3": node("Map", image=["2", 0], by=1, **{f"v{at}": [f"v{at}", 0] for at in range(MOST_LINKS)}),
            "4": save("3"),
        },
        "2",
        f"The region that node 2 (ClusterFanOutImage) opens has {MOST_LINKS + 1} values from outside; ",
    ),
    "too many closing nodes": (
        {
            **OPENED,
            **{f"in {at}": node(FAN_IN, input=["2", 0]) for at in range(MOST_LINKS + 1)},
            **{f"save {at}": save(f"in {at}") for at in range(MOST_LINKS + 1)},
        },
        "2",
        f"The region that node 2 (ClusterFanOutImage) opens has {MOST_LINKS + 1} closing nodes; ",
    ),
    "too many output nodes": (
        {**OPENED, **{f"save {at}": save("2") for at in range(MOST_LINKS + 1)}},
        "2",
        f"The region that node 2 (ClusterFanOutImage) opens has {MOST_LINKS + 1} output nodes; ",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_split_is_refused_in_a_sentence(what: str) -> None:
    prompt, node_id, sentence = REFUSED[what]
    before = copy.deepcopy(prompt)
    with pytest.raises(RegionError) as refused:
        plan(prompt, NODES, ())
    assert str(refused.value).startswith(sentence)
    assert refused.value.node_id == node_id
    assert prompt == before


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_executed_is_not_looked_at(what: str) -> None:
    prompt, _, _ = REFUSED[what]
    assert plan({**prompt, "good": node("Load", seed=1, size=1), "out": save("good")}, NODES, ["out"]) is None


def test_a_prompt_without_cluster_nodes_has_no_plan() -> None:
    assert plan({**LOADED, "2": save("1")}, NODES, ()) is None
    assert (
        plan({**LOADED, "2": node("ClusterInfo"), "3": mapped("1", whole=["2", 0]), "4": save("3")}, NODES, ())
        is None
    )


def test_several_closing_nodes_of_a_region_share_a_run() -> None:
    prompt = {
        **OPENED,
        "10": node(FAN_OUT, input=["1", 0]),
        "3": node("Zip", image=["2", 0], other=["10", 0]),
        "4": node(FAN_IN, input=["3", 0]),
        "5": node(FAN_IN, input=["2", 0]),
        "6": save("4"),
        "7": save("5"),
    }
    planned = plan(prompt, NODES, ())
    assert planned is not None
    assert [each for each in planned.prompt if each not in prompt] == ["2.region"]
    assert planned.prompt["4"]["inputs"]["results"] == ["2.region", 0]
    assert planned.prompt["5"]["inputs"]["results"] == ["2.region", 1]
    layout = Layout.from_json(planned.prompt["2.region"]["inputs"]["layout"])
    assert list(layout.openers) == ["2", "10"]
    assert list(layout.closers) == ["4", "5"]
    assert not layout.ranked
    assert planned.shown == {"2.region": "4"}


def test_what_cannot_travel_is_carried_and_what_can_is_computed_once() -> None:
    prompt = {
        **OPENED,
        "3": node("Sum", image=["1", 0]),
        "4": node("Model", name=1, strength=["3", 0]),
        "5": node("Anything", value=["4", 0]),
        "6": mapped("2", model=["4", 0], other=["5", 0], whole=["3", 0]),
        "7": node(FAN_IN, input=["6", 0]),
        "8": save("7"),
    }
    planned = plan(prompt, NODES, ())
    assert planned is not None
    inputs = planned.prompt["2.region"]["inputs"]
    layout = Layout.from_json(inputs["layout"])
    assert layout.carried == ("4", "5"), "what * stands for is known when it is there"
    assert layout.links == {"1:0": "in_0", "3:0": "in_1", "5:0": "in_2"}
    assert [inputs[name] for name in ("in_0", "in_1", "in_2")] == [["1", 0], ["3", 0], ["5", 0]]
    assert inputs["side_0"] == ["4", 0]
    assert inputs["watch_0"] == ["6", 0]


def test_output_nodes_inside_are_no_targets_of_their_own() -> None:
    prompt = {
        **OPENED,
        "3": save("2"),
        "4": node(FAN_IN, input=["2", 0]),
        "5": save("4"),
        "6": save("1"),
    }
    planned = plan(prompt, NODES, ["6", "3", "5"])
    assert planned is not None
    assert planned.targets == ("6", "2.region", "5")
    assert planned.prompt["2.region"]["class_type"] == "ComfyDistRunAll"
    without = plan(prompt, NODES, ["6", "5"])
    assert without is not None
    assert without.targets == ("6", "5")
    assert "3" not in Layout.from_json(without.prompt["2.region"]["inputs"]["layout"]).members


def test_a_changed_constant_of_a_saving_node_changes_the_run() -> None:
    def run(prefix: str) -> Any:
        planned = plan({**OPENED, "3": node("Save", image=["2", 0], filename_prefix=prefix)}, NODES, ())
        assert planned is not None
        return planned.prompt["2.region"]

    assert run("a") == run("a")
    assert run("a") != run("b")


def test_the_order_of_nodes_in_a_prompt_changes_nothing() -> None:
    prompt = {
        **OPENED,
        "3": mapped("2"),
        "4": save("3"),
        "5": save("2"),
        "6": node(FAN_IN, input=["3", 0]),
        "7": save("6"),
    }
    backwards = dict(reversed(prompt.items()))
    one, other = plan(prompt, NODES, ()), plan(backwards, NODES, ())
    assert one is not None
    assert other is not None
    assert one.prompt == other.prompt


@pytest.mark.parametrize(
    ("opener", "closer", "ranked"),
    [(FAN_OUT, FAN_IN, False), (FAN_OUT, GATHER, True), (WORK_ITEM, FAN_IN, True)],
)
def test_a_region_that_looks_at_ranks_has_one_chunk_for_each(opener: str, closer: str, ranked: bool) -> None:
    opened = node(opener, **{OPENERS[opener].input: ["1", 0]}, chunks_per_worker=7)
    prompt = {**LOADED, "2": opened, "3": node(closer, input=["2", 0]), "4": save("3")}
    layout = layout_of(prompt, "2.region")
    assert layout.ranked is ranked
    assert layout.chunks_per_worker == 7


def test_info_tells_the_rank_of_the_region_that_it_feeds() -> None:
    prompt = {
        **OPENED,
        "3": node("ClusterInfo"),
        "4": node("Sum", image=["3", 0]),
        "5": mapped("2", whole=["4", 0]),
        "6": node(FAN_IN, input=["5", 0]),
        "7": save("6"),
    }
    layout = layout_of(prompt, "2.region")
    assert layout.infos == ("3",)
    assert layout.members == ("4", "5"), "what depends on the rank is made by each"
    assert layout.ranked


def test_info_opens_a_region_where_nothing_else_does() -> None:
    prompt = {
        "1": node("ClusterInfo"),
        "2": mapped("1"),
        "3": node(GATHER, input=["2", 0]),
        "4": save("3"),
        "5": save("2"),
    }
    layout = layout_of(prompt, "1.region")
    assert layout.openers == {}
    assert layout.infos == ("1",)
    assert list(layout.outputs) == ["5"]
    planned = plan(prompt, NODES, ())
    assert planned is not None
    assert planned.targets == ("4", "1.region")


def test_a_region_that_depends_on_the_rank_is_cloned_as_a_whole() -> None:
    prompt = {
        **OPENED,
        "3": node("ClusterInfo"),
        "4": node(FAN_OUT, input=["3", 0]),
        "5": node(FAN_IN, input=["4", 0]),
        "6": node(FAN_IN, input=["4", 0]),
        "7": mapped("2", whole=["5", 0]),
        "8": node(FAN_IN, input=["7", 0]),
        "9": save("8"),
        "10": save("6"),
    }
    assert layout_of(prompt, "2.region").members == ("4", "5", "6", "7", "4.region")


def test_a_listen_without_its_broadcast_is_left_to_run_time() -> None:
    assert plan({"1": node("ClusterListenTensorBroadcast", channel="far"), "2": save("1")}, NODES, ()) is None


def test_broadcasts_are_published_where_other_workflows_are_executed() -> None:
    prompt = {
        **LOADED,
        "2": node("ClusterBroadcastTensor", input=["1", 0], channel="c"),
        "3": node("ClusterExecuteWorkflow", image=["2", 0], workflow_path="w.json"),
        "4": save("3"),
    }
    planned = plan(prompt, NODES, ())
    assert planned is not None
    assert planned.prompt["2"]["inputs"]["publish"] is True
    assert restore(planned.prompt) == prompt


def test_ids_that_are_taken_are_left_to_whom_they_belong() -> None:
    prompt = {**OPENED, "2.region": save("1"), "3": node(FAN_IN, input=["2", 0]), "4": save("3")}
    planned = plan(prompt, NODES, ())
    assert planned is not None
    assert planned.prompt["2.region"] == prompt["2.region"]
    assert planned.prompt["3"]["inputs"]["results"] == ["2.region_", 0]
    assert restore(planned.prompt) == prompt


def test_a_layout_is_the_same_after_its_way_as_text() -> None:
    prompt, _, _ = REFUSED["parts that were opened in different places"]
    layout = layout_of(
        {each: its for each, its in prompt.items() if each not in "56"} | {"7": save("3")}, "2.region"
    )
    assert Layout.from_json(layout.to_json()) == layout


@pytest.mark.parametrize("text", ["", "7", "[]", "{}", '{"openers": 1}', '{"openers": {"1": {}}}', "[" * 100_000])
def test_what_is_no_layout_is_refused_in_words(text: str) -> None:
    with pytest.raises(UnreadableLayout, match="cannot be read"):
        Layout.from_json(text)


IDS = st.sampled_from([*"123456", "1.region", "9"])
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.floats(),
    st.text(max_size=3),
    st.just([]),
    st.just({}),
    st.just("{}"),
    st.just('{"outputs":{"1":0}}'),
)
LINKS = st.tuples(IDS | ODD, ODD | st.integers(0, 2)).map(list) | st.tuples(IDS, st.just(0)).map(list)
CLASSES = st.sampled_from([*NODES, "ComfyDistHeld", "ComfyDistRank", "Unknown"]) | st.sampled_from(
    [*OPENERS, *CLOSERS]
)
INPUTS = st.dictionaries(
    st.sampled_from(["input", "images", "image", "results", "subgraph_id", "channel", "layout", "in_0", "other"]),
    LINKS | LINKS | ODD,
    max_size=4,
)
ODD_NODES = st.one_of(
    st.builds(lambda name, inputs: {"class_type": name, "inputs": inputs}, CLASSES, INPUTS),
    st.builds(lambda name, inputs: {"class_type": name, "inputs": inputs, "_meta": 3}, CLASSES, INPUTS | ODD),
    st.builds(lambda name, shown: {"class_type": name, "override_display_id": shown}, CLASSES | ODD, ODD),
    ODD,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(IDS, ODD_NODES, max_size=7), st.lists(IDS, max_size=3))
def test_nonsense_is_left_to_validation(prompt: dict[str, Any], targets: list[str]) -> None:
    before = repr(prompt)
    try:
        planned = plan(prompt, NODES, targets)
    except RegionError:
        planned = None
    if planned is not None:
        json.dumps(planned.prompt)
        again = plan(planned.prompt, NODES, planned.targets or targets)
        assert repr(again or planned) == repr(planned)
    assert repr(prompt) == before


def steps(prompt: dict[str, Any]) -> int:
    """How many calls of functions a plan takes."""
    count = 0

    def called(frame: Any, what: str, argument: Any) -> None:
        nonlocal count
        count += 1

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        planned = plan(prompt, NODES, ())
    finally:
        sys.setprofile(before)
    assert planned is not None
    return count


def chain(length: int) -> dict[str, Any]:
    """One long region."""
    prompt = {**OPENED, **{str(at): mapped(str(at - 1)) for at in range(3, length)}}
    return {**prompt, "in": node(FAN_IN, input=[str(length - 1), 0]), "save": save("in")}


def regions(length: int) -> dict[str, Any]:
    """Regions one after another, each with a value from before it, and one output inside."""
    prompt = dict(LOADED)
    for at in range(1, length, 5):
        prompt |= {
            str(at + 1): node(FAN_OUT, input=[str(at), 0]),
            str(at + 2): mapped(str(at + 1), whole=["1", 0]),
            str(at + 3): save(str(at + 2)),
            str(at + 5): node(FAN_IN, input=[str(at + 2), 0]),
        }
    return {**prompt, "save": save(str(at + 5))}


def pieces(length: int) -> dict[str, Any]:
    """Subgraphs, each used on what the one before made."""
    prompt = dict(LOADED)
    for at in range(1, length, 5):
        prompt |= {
            f"{at}s": start(str(at)),
            f"{at}m": mapped(f"{at}s"),
            f"{at}e": end(f"{at}m"),
            str(at + 5): use(str(at), str(at)),
        }
    return {**prompt, "save": save(str(at + 5))}


def beside(length: int) -> dict[str, Any]:
    """Opening nodes whose parts come together one by one."""
    prompt: dict[str, Any] = {**OPENED, "z2": mapped("2")}
    for at in range(3, min(length // 2, 60)):
        prompt |= {
            str(at): node(FAN_OUT, input=["1", 0]),
            f"z{at}": node("Zip", image=[f"z{at - 1}", 0], other=[str(at), 0]),
        }
    last = min(length // 2, 60) - 1
    tail = {f"t{at}": mapped(f"t{at - 1}" if at else f"z{last}") for at in range(length)}
    return {**prompt, **tail, "save": save(f"t{length - 1}")}


@pytest.mark.parametrize("graph", [chain, regions, pieces, beside])
def test_work_grows_with_the_graph_and_not_faster(graph: Any) -> None:
    assert steps(graph(4_000)) < 5.2 * steps(graph(1_000))
