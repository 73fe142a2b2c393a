"""Order, cache keys, list mapping, frames: functions of data, held against simple models of them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.engine.child import describe_exit
from comfy_dist.engine.frames import Decoder, pack
from comfy_dist.engine.graph.cache_keys import add_keys, node_key
from comfy_dist.engine.graph.caches.classic import ClassicCache
from comfy_dist.engine.graph.caches.protocol import Cached
from comfy_dist.engine.graph.links import ExecutionBlocker
from comfy_dist.engine.graph.mapping import blocker_in, calls, merge, merge_ui, spread
from comfy_dist.engine.graph.order import ExecutionOrder
from comfy_dist.engine.graph.returns import read_return


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Acyclic graphs: {node: its sources}, in any order."""
    count = draw(st.integers(1, 12))
    edges = {
        str(index): [str(source) for source in draw(st.sets(st.integers(0, index - 1), max_size=3))]
        if index
        else []
        for index in range(count)
    }
    names = draw(st.permutations(list(edges)))
    return {name: edges[name] for name in names}


def order_of(sources: dict[str, list[str]], wanted: list[str], outputs: set[str], cached: set[str]) -> list[str]:
    order = ExecutionOrder(sources.__getitem__, cached.__contains__, outputs.__contains__, outputs.__contains__)
    for each in wanted:
        order.add(each)
    taken: list[str] = []
    while order:
        node_id = order.take()
        assert node_id is not None
        taken.append(node_id)
        order.done(node_id)
    return taken


@given(graphs(), st.data())
def test_sources_come_first_and_only_what_outputs_need_runs(
    graph: dict[str, list[str]], data: st.DataObject
) -> None:
    outputs = data.draw(st.lists(st.sampled_from(list(graph)), min_size=1, unique=True))
    taken = order_of(graph, outputs, set(outputs), set())
    needed: set[str] = set()
    stack = list(outputs)
    while stack:
        here = stack.pop()
        if here not in needed:
            needed.add(here)
            stack += graph[here]
    assert sorted(taken) == sorted(needed)
    place = {node_id: index for index, node_id in enumerate(taken)}
    assert all(place[source] < place[node_id] for node_id in taken for source in graph[node_id])


@given(graphs(), st.data())
def test_what_is_cached_does_not_run_but_where_it_is_an_output(
    graph: dict[str, list[str]], data: st.DataObject
) -> None:
    outputs = data.draw(st.lists(st.sampled_from(list(graph)), min_size=1, unique=True))
    cached = set(data.draw(st.lists(st.sampled_from(list(graph)), unique=True)))
    taken = order_of(graph, outputs, set(outputs), cached)
    assert not (set(taken) & cached) - set(outputs)


def test_an_output_runs_as_soon_as_it_can() -> None:
    graph = {"load": [], "preview": ["load"], "slow": ["load"], "save": ["slow"]}
    assert order_of(graph, ["save", "preview"], {"save", "preview"}, set()) == ["load", "preview", "slow", "save"]


@given(graphs(), st.data())
def test_each_node_taken_is_the_one_that_comfyui_would_pick(
    graph: dict[str, list[str]], data: st.DataObject
) -> None:
    """Of those ready: outputs, then what feeds one, then what feeds that, then the one found first."""
    outputs = data.draw(st.lists(st.sampled_from(list(graph)), min_size=1, unique=True))
    shows = set(outputs)
    found: list[str] = []

    def sources(node_id: str) -> list[str]:
        found.append(node_id)
        return graph[node_id]

    order = ExecutionOrder(sources, lambda _: False, shows.__contains__, shows.__contains__)
    order.add(*outputs)
    left = list(found)
    while order:
        ready = [each for each in left if not set(graph[each]) & set(left)]
        fed = {each: [other for other in left if each in graph[other]] for each in left}

        def rank(each: str, fed: dict[str, list[str]] = fed) -> int:
            if each in shows:
                return 0
            if shows & set(fed[each]):
                return 1
            return 2 if any(shows & set(fed[other]) for other in fed[each]) else 3

        taken = order.take()
        assert taken == min(ready, key=lambda each: (rank(each), found.index(each)))
        left.remove(taken)
        order.done(taken)
    assert not left


def test_what_comes_to_need_a_node_changes_its_rank() -> None:
    graph: dict[str, list[str]] = {"first": [], "then": ["first"], "end": ["then"], "inner": [], "out": []}
    order = ExecutionOrder(
        graph.__getitem__, lambda _: False, {"out", "end"}.__contains__, {"out", "end"}.__contains__
    )
    order.add("end", "out")
    assert order.take() == "out"
    order.depend("out", "inner")
    order.give_back("out")
    assert order.take() == "inner", "it feeds an output now"


def test_nodes_in_a_cycle_are_found() -> None:
    graph = {"a": ["b"], "b": ["a"], "c": ["a"], "d": []}
    order = ExecutionOrder(graph.__getitem__, lambda _: False, lambda _: False, lambda _: False)
    order.add("c")
    assert order.take() is None
    assert set(order.cycle()) == {"a", "b", "c"}


def test_an_order_of_a_wide_graph_is_found_in_no_time() -> None:
    graph: dict[str, list[str]] = {f"s{i}": [] for i in range(20_000)} | {"o": [f"s{i}" for i in range(20_000)]}
    started = time.process_time()
    assert len(order_of(graph, ["o"], {"o"}, set())) == 20_001
    assert time.process_time() - started < 5


def keys_of(prompt: dict[str, Any], changed: dict[str, Any] | None = None) -> dict[str, bytes]:
    keys: dict[str, bytes] = {}

    def key_of(node_id: str, node: Any) -> bytes:
        is_changed = (changed or {}).get(node_id)
        return node_key(node["class_type"], node["inputs"], keys.__getitem__, is_changed=is_changed)

    add_keys(keys, prompt, prompt.get, key_of)
    return keys


@given(graphs(), st.data())
def test_keys_do_not_depend_on_ids_or_order_but_on_every_ancestor(
    graph: dict[str, list[str]], data: st.DataObject
) -> None:
    prompt: dict[str, Any] = {
        node_id: {"class_type": "N", "inputs": {"own": node_id} | {f"i{n}": [s, 0] for n, s in enumerate(sources)}}
        for node_id, sources in graph.items()
    }
    renamed = {
        f"x{node_id}": {
            "class_type": "N",
            "inputs": {
                name: [f"x{value[0]}", 0] if isinstance(value, list) else value
                for name, value in reversed(node["inputs"].items())
            },
        }
        for node_id, node in reversed(prompt.items())
    }
    keys = keys_of(prompt)
    assert {f"x{node_id}": key for node_id, key in keys.items()} == keys_of(renamed)
    assert len(set(keys.values())) == len(keys)

    touched = data.draw(st.sampled_from(list(graph)))
    prompt[touched]["inputs"]["own"] = "other"
    after = keys_of(prompt)
    dependents = {touched}
    for _ in graph:
        dependents |= {node_id for node_id, sources in graph.items() if dependents & set(sources)}
    assert {node_id for node_id in graph if keys[node_id] != after[node_id]} == dependents


@pytest.mark.parametrize("fingerprint", [float("nan"), [float("nan")], object(), [[object()]]])
def test_what_always_changes_is_never_found_again(fingerprint: Any) -> None:
    prompt = {"1": {"class_type": "A", "inputs": {}}, "2": {"class_type": "B", "inputs": {"x": ["1", 0]}}}
    first, second = keys_of(prompt, {"1": fingerprint}), keys_of(prompt, {"1": fingerprint})
    assert first["1"] != second["1"]
    assert first["2"] != second["2"]


def test_the_same_fingerprint_is_the_same_key() -> None:
    prompt = {"1": {"class_type": "A", "inputs": {}}}
    assert keys_of(prompt, {"1": ["abc"]}) == keys_of(prompt, {"1": ["abc"]})
    assert keys_of(prompt, {"1": ["abc"]}) != keys_of(prompt, {"1": ["abd"]})


def test_a_cycle_or_a_missing_node_has_keys_that_are_never_found() -> None:
    prompt = {
        "1": {"class_type": "A", "inputs": {"x": ["2", 0]}},
        "2": {"class_type": "A", "inputs": {"x": ["1", 0], "y": ["gone", 0]}},
    }
    assert not set(keys_of(prompt).values()) & set(keys_of(prompt).values())


def test_keys_of_a_chain_of_10_000_nodes_need_no_recursion() -> None:
    prompt = {str(i): {"class_type": "A", "inputs": {"x": [str(i - 1), 0]}} for i in range(1, 10_000)}
    prompt["0"] = {"class_type": "A", "inputs": {}}
    assert len(keys_of(dict(reversed(prompt.items())))) == 10_000


def test_the_classic_cache_keeps_the_last_prompt_and_what_it_expanded() -> None:
    cache = ClassicCache()
    for key, owner, ephemeral in ((b"a", "1", False), (b"b", "2", False), (b"c", "1", True), (b"d", "2", True)):
        cache.set(key, Cached([[1]], None, (owner, "N"), ephemeral))
    cache.begin([b"b"], {"2": "N", "1": "Other"})
    assert [cache.get(key) is not None for key in (b"a", b"b", b"c", b"d")] == [False, True, False, True]


@given(st.dictionaries(st.text(max_size=3), st.lists(st.integers(), min_size=1, max_size=5), max_size=4))
def test_shorter_lists_repeat_their_last_item(values: dict[str, list[int]]) -> None:
    made = list(calls(values, input_is_list=False))
    assert len(made) == max((len(items) for items in values.values()), default=1)
    for index, arguments in enumerate(made):
        assert arguments == {name: (items + [items[-1]] * 5)[index] for name, items in values.items()}
    assert list(calls(values, input_is_list=True)) == [values]


def test_an_empty_list_is_an_error_that_names_the_input() -> None:
    with pytest.raises(ValueError, match="'b' received an empty list"):
        list(calls({"a": [1], "b": []}, input_is_list=False))
    assert list(calls({"b": []}, input_is_list=True)) == [{"b": []}]


@given(st.lists(st.tuples(st.lists(st.integers(), max_size=3), st.lists(st.integers(), max_size=3)), min_size=1))
def test_list_outputs_extend_and_others_append(results: list[tuple[list[int], list[int]]]) -> None:
    first, second = merge([spread(result, (True, False)) for result in results])
    assert first == [item for result in results for item in result[0]]
    assert second == [result[1] for result in results]


def test_results_and_ui_are_put_together() -> None:
    blocker = ExecutionBlocker(None)
    assert merge([spread(result, (True,)) for result in ((blocker,), ([1],))]) == [[blocker, 1]]
    assert merge([]) == []
    assert merge_ui([{"text": ("a",)}, {"text": ["b"], "images": []}, {}]) == {"text": ["a", "b"], "images": []}
    assert blocker_in({"a": 1, "b": blocker}, input_is_list=False) is blocker
    assert blocker_in({"a": [1, blocker]}, input_is_list=False) is None
    assert blocker_in({"a": [1, blocker]}, input_is_list=True) is blocker


def test_returns_are_taken_apart() -> None:
    assert read_return((1, 2), 2).result == (1, 2)
    assert read_return({"ui": {"text": ["a"]}}, 0).result is None
    both = read_return({"ui": {"text": ["a"]}, "result": (1,)}, 1)
    assert (both.ui, both.result) == ({"text": ["a"]}, (1,))
    assert read_return(None, 0).result == ()
    blocker = ExecutionBlocker("no")
    assert read_return(blocker, 2).result == (blocker, blocker)
    for wrong, said in ((None, "returned nothing"), (5, "of type int"), ("abc", "of type str")):
        with pytest.raises(TypeError, match=said):
            read_return(wrong, 1)


@given(
    st.lists(
        st.tuples(st.dictionaries(st.text(), st.integers(-(2**40), 2**40)), st.binary(max_size=50)), max_size=6
    ),
    st.integers(1, 40),
)
def test_frames_survive_any_cut(frames: list[tuple[dict[str, int], bytes]], size: int) -> None:
    data = b"".join(pack(header, body) for header, body in frames)
    decoder = Decoder()
    got = [frame for start in range(0, len(data), size) for frame in decoder.feed(data[start : start + size])]
    assert got == frames


@pytest.mark.parametrize("value", [float("nan"), (1, 2), {1: "a"}, object(), "\ud800", b"\xff", {"a": {1, 2}}])
def test_whatever_a_node_shows_can_be_sent(value: Any) -> None:
    [(header, _)] = Decoder().feed(pack({"output": value}))
    assert "output" in header


def test_exits_are_told_in_words() -> None:
    assert describe_exit(3) == "exited with code 3"
    assert describe_exit(-11) == "was ended by signal 11 (SIGSEGV, segmentation fault)"
    assert describe_exit(-99) == "was ended by signal 99"
