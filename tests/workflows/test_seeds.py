"""Seeds of a prompt that is run again."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.workflows.seeds import reseeded
from tests.support.talking import node

LAST = 2**64 - 1
WHOLE = st.integers(0, LAST)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def limited(smallest: Any, largest: Any) -> dict[str, Any]:
    """Definitions of a class whose seed has these limits."""
    return {"K": {"input": {"required": {"seed": ["INT", {"min": smallest, "max": largest}]}}}}


def moved(value: Any, offset: int, nodes: dict[str, Any]) -> Any:
    return reseeded({"1": node("K", seed=value)}, offset, nodes)["1"]["inputs"]["seed"]


def test_only_seeds_that_are_whole_numbers_move() -> None:
    inputs = {"seed": 3, "noise_seed": LAST, "steps": 5, "cfg": 7.5}
    others = {"seed": ["1", 0], "noise_seed": True}
    prompt = {"1": node("K", **inputs), "2": node("DistributedSeed", seed=8), "3": node("K", **others)}
    before = copy.deepcopy(prompt)
    assert reseeded(prompt, 2, {}) == {
        "1": node("K", **inputs | {"seed": 5, "noise_seed": 1}),
        "2": node("DistributedSeed", seed=10),
        "3": node("K", **others),
    }
    assert prompt == before


def test_behind_the_largest_comes_the_smallest() -> None:
    assert [moved(LAST - 1, offset, {}) for offset in range(4)] == [LAST - 1, LAST, 0, 1]
    assert [moved(98, offset, limited(10, 100)) for offset in range(5)] == [98, 99, 100, 10, 11]
    assert moved(-1, 1, limited(-1, 3)) == 0


def test_what_is_not_allowed_stays_as_it_is_for_validation_to_name() -> None:
    assert moved(101, 1, limited(10, 100)) == 101
    assert moved(-5, 1, {}) == -5
    assert moved(2**64, 1, {}) == 2**64


def test_definitions_that_make_no_sense_are_those_of_a_seed_of_64_bits() -> None:
    for smallest, largest in ((5, 1), ("a", "b"), (None, None), (0.0, 1.5), ([], {})):
        assert moved(LAST, 1, limited(smallest, largest)) == 0
    for definition in (None, [], {"input": 5}, {"input": {"required": {"seed": 7}}}):
        assert moved(LAST, 1, {"K": definition}) == 0


@given(WHOLE, WHOLE, WHOLE, st.integers(-(2**65), 2**65))
def test_a_move_stays_within_the_limits_and_can_be_taken_back(one: int, other: int, value: int, by: int) -> None:
    nodes = limited(min(one, other), max(one, other))
    value = min(max(value, min(one, other)), max(one, other))
    there = moved(value, by, nodes)
    assert min(one, other) <= there <= max(one, other)
    assert moved(there, -by, nodes) == value


@given(st.dictionaries(st.text(), JSON), st.integers(0, 100))
def test_anything_may_stand_where_a_prompt_should(prompt: dict[str, Any], offset: int) -> None:
    assert reseeded(prompt, offset, limited(0, 5)).keys() == prompt.keys()
