"""Clients see the nodes that they sent, whoever executed which clone of them."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.calls.showing import Shown


def meta_of(node_id: str, display: str) -> dict[str, Any]:
    return {"node_id": node_id, "display_node": display, "parent_node": None, "real_node_id": "1.region"}


def images(*names: str) -> dict[str, Any]:
    return {"images": [{"filename": name, "subfolder": "", "type": "output"} for name in names]}


def test_pictures_of_all_chunks_are_one_entry_in_their_order() -> None:
    shown = Shown({"1.region": "5"})
    own = ({"7": images("own"), "1.region.10.3": images("c")}, {"1.region.10.3": meta_of("1.region.10.3", "3")})
    calls = [
        ({"1.region.9.3": images("b1", "b2")}, {"1.region.9.3": meta_of("1.region.9.3", "3")}),
        ({"1.region.0.3": images("a") | {"animated": (True,), "text": "first"}}, {}),
    ]
    outputs, meta = shown.merged(own, calls)
    assert outputs == {
        "7": images("own"),
        "3": images("a", "b1", "b2", "c") | {"animated": [True], "text": "first"},
    }
    assert meta == {"3": {"node_id": "3", "display_node": "3", "parent_node": None, "real_node_id": "3"}}


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32))
def test_chunks_of_a_region_inside_lie_within_their_chunk(outer: int, inner: int, seed: int) -> None:
    ids = [f"1.region.{one}.2.region.{two}.9" for one in range(outer) for two in range(inner)]
    shuffled = list(ids)
    random.Random(seed).shuffle(shuffled)
    half = len(shuffled) // 2
    parent, call = ({each: {"images": [each]} for each in part} for part in (shuffled[:half], shuffled[half:]))
    # A call hands on what its own calls showed as it came.
    handed_on = Shown.of_call({"rank": {"class_type": "ComfyDistRank", "override_display_id": "5"}}).merged(
        (call, {}), []
    )
    outputs, _ = Shown({"1.region": "5", "2.region": "6"}).merged((parent, {}), [handed_on])
    assert outputs == {"9": {"images": ids}}


def test_a_chunk_that_was_executed_twice_counts_once() -> None:
    first, second = ({"1.region.0.3": images("first")}, {}), ({"1.region.0.3": images("second")}, {})
    assert Shown({}).merged(({}, {}), [first, second])[0] == {"3": images("first")}


def test_nodes_of_other_workflows_are_not_mixed_in() -> None:
    own = ({"9": images("mine")}, {"9": meta_of("9", "9")})
    outputs, meta = Shown({}).merged(own, [({"9": images("theirs")}, {})])
    assert outputs == {"9": images("mine")}
    assert meta == {"9": meta_of("9", "9")}


def test_inlined_nodes_are_shown_as_the_node_that_uses_them() -> None:
    shown = Shown({"4.3": "4", "1.region": "5"})
    clone = "1.region.2.4.3"
    assert shown.merged(({clone: images("a"), "4.3": images("b")}, {}), [])[0] == {"4": images("b", "a")}


def test_what_a_node_in_a_clone_expands_into_is_shown_as_the_node() -> None:
    inside = "1.region.0.3.0.0.1"
    assert Shown({}).merged(({inside: images("a")}, {inside: meta_of(inside, "3")}), [])[0] == {"3": images("a")}


def test_events_name_nodes_that_clients_know() -> None:
    shown = Shown({"1.region": "5", "4.3": "4"})
    assert shown.event("executing", {"node": "1.region", "display_node": "1.region", "prompt_id": "p"}) == {
        "node": "5",
        "display_node": "5",
        "prompt_id": "p",
    }
    clone = {"node": "1.region.0.4.3", "display_node": "4.3", "prompt_id": "p"}
    assert shown.event("executing", clone) == {"node": "4", "display_node": "4", "prompt_id": "p"}
    assert clone["node"] == "1.region.0.4.3", "an event is not changed in place"
    progress = shown.event("progress", {"node": "1.region.0.4.3", "value": 1, "max": 2})
    assert progress == {"node": "4", "value": 1, "max": 2}, "an event that names no other node"
    assert shown.event("execution_cached", {"nodes": ["1", "1.region", "5"]}) == {"nodes": ["1", "5"]}
    failed = {"node_id": "1.region", "executed": ["1", "1.region"], "exception_message": "1.region"}
    assert shown.event("execution_error", failed) == {**failed, "node_id": "5", "executed": ["1", "5"]}
    assert shown.event("execution_start", {"prompt_id": "p"}) == {"prompt_id": "p"}
    assert shown.event("executing", {"node": None, "prompt_id": "p"}) == {"node": None, "prompt_id": "p"}


def test_the_node_at_fault_is_named_not_the_one_that_expanded_into_it() -> None:
    prompt = {"3": {"class_type": "Scale", "inputs": {}}, "5": {"class_type": "ClusterFanInImages", "inputs": {}}}
    failed = {"node_id": "1.region", "node_type": "ComfyDistRun", "executed": [], "exception_message": "no"}
    shown = Shown({"1.region": "5"}, prompt)
    shown.event("executing", {"node": "1.region", "display_node": "1.region", "prompt_id": "p"})
    told = shown.event("execution_error", failed)
    assert (told["node_id"], told["node_type"]) == ("5", "ClusterFanInImages")
    shown.event("executing", {"node": "1.region.0.3", "display_node": "3", "prompt_id": "p"})
    told = shown.event("execution_error", failed)
    assert (told["node_id"], told["node_type"]) == ("3", "Scale")
    # A node that clients have sent is at fault itself.
    assert shown.event("execution_error", {**failed, "node_id": "7", "node_type": "Mine"})["node_id"] == "7"
    inner = {"1.region.0.3": {"class_type": "Scale", "inputs": {}, "override_display_id": "3"}}
    rank = Shown.of_call(inner)
    rank.event("executing", {"node": "1.region.0.2.region.1.3", "display_node": "3", "prompt_id": "p"})
    told = rank.event("execution_error", {**failed, "node_id": "rank", "node_type": "ComfyDistRank"})
    assert (told["node_id"], told["node_type"]) == ("3", "Scale")


def test_states_keep_their_keys_and_name_known_nodes() -> None:
    state = {
        "node_id": "a.0.3",
        "display_node_id": "4.3",
        "real_node_id": "1.region",
        "parent_node_id": None,
        "value": 1,
    }
    told = Shown({"1.region": "5", "4.3": "4"}).event(
        "progress_state", {"prompt_id": "p", "nodes": {"a.0.3": state}}
    )
    assert told["nodes"]["a.0.3"] == {**state, "display_node_id": "4", "real_node_id": "5"}
