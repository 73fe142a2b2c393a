"""Every way a prompt can be wrong, with ComfyUI's types and shapes (compared with 0.3.64)."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_dist.input_judging import types_match
from comfy_dist.validation import validate_prompt
from tests.engine.prompts import empty_image, node

SIZE = ["INT", {"default": 512, "min": 1, "max": 16384, "step": 1}]
NODES: dict[str, Any] = {
    "EmptyImage": {
        "input": {
            "required": {
                "width": SIZE,
                "height": SIZE,
                "batch_size": ["INT", {"default": 1, "min": 1, "max": 4096}],
                "color": ["INT", {"default": 0}],
            }
        },
        "output": ["IMAGE"],
        "output_node": False,
    },
    "ImageInvert": {"input": {"required": {"image": ["IMAGE"]}}, "output": ["IMAGE"], "output_node": False},
    "Scale": {
        "input": {
            "required": {"image": ["IMAGE"], "method": [["near", "far"]], "factor": ["FLOAT", {"max": 8.0}]}
        },
        "output": ["IMAGE"],
        "output_node": False,
    },
    "SolidMask": {"input": {"required": {}}, "output": ["MASK"], "output_node": False},
    "Coded": {
        "input": {"required": {"number": ["INT", {"max": 10}]}, "optional": {"other": ["INT", {"max": 10}]}},
        "output": ["INT"],
        "output_node": False,
    },
    "Text": {"input": {"required": {"value": ["STRING", {}]}}, "output": ["STRING"], "output_node": False},
    "Flag": {"input": {"optional": {"value": ["BOOLEAN", {}]}}, "output": ["*"], "output_node": False},
    "Long": {
        "input": {"required": {"file": [[f"{i}.png" for i in range(21)], {}]}},
        "output": ["A,B"],
        "output_node": False,
    },
    "Preview": {"input": {"required": {"images": ["IMAGE"]}}, "output": [], "output_node": True},
    "Any": {"input": {"required": {"source": ["*", {}]}}, "output": [], "output_node": True},
    "Union": {"input": {"required": {"source": ["B, C", {}]}}, "output": [], "output_node": True},
}


def errors_of(prompt: Any, node_id: str, **more: Any) -> list[dict[str, Any]]:
    return validate_prompt(prompt, NODES, **more).node_errors[node_id]["errors"]  # type: ignore[no-any-return]


def test_a_good_prompt_names_its_outputs_in_order() -> None:
    prompt = {"1": empty_image(), "b": node("Preview", images=["1", 0]), "a": node("Any", source=["1", 0])}
    verdict = validate_prompt(prompt, NODES)
    assert verdict.valid
    assert verdict.outputs == ("b", "a")
    assert verdict.node_errors == {}
    assert verdict.error is None


@pytest.mark.parametrize(
    ("prompt", "type_", "message", "details"),
    [
        ({}, "prompt_no_outputs", "Prompt has no outputs", ""),
        ({"1": empty_image()}, "prompt_no_outputs", "Prompt has no outputs", ""),
        (
            {"1": {"inputs": {}}},
            "invalid_prompt",
            "Cannot execute because a node is missing the class_type property.",
            "Node ID '#1'",
        ),
        (
            {"5": node("Nope")},
            "invalid_prompt",
            "Cannot execute because node Nope does not exist.",
            "Node ID '#5'",
        ),
        ({"5": 7}, "invalid_prompt", "Cannot execute because a node is not an object.", "Node ID '#5'"),
        (
            {"5": {"class_type": "Preview", "inputs": [1]}},
            "invalid_prompt",
            "Cannot execute because a node's inputs are not an object.",
            "Node ID '#5'",
        ),
        (
            {"5": {"class_type": ["Preview"]}},
            "invalid_prompt",
            "Cannot execute because node ['Preview'] does not exist.",
            "Node ID '#5'",
        ),
    ],
)
def test_a_prompt_that_is_none_is_refused_as_a_whole(prompt: Any, type_: str, message: str, details: str) -> None:
    verdict = validate_prompt(prompt, NODES)
    assert not verdict.valid
    assert verdict.error == {"type": type_, "message": message, "details": details, "extra_info": {}}
    assert verdict.node_errors == {}


@pytest.mark.parametrize(
    ("culprit", "expected"),
    [
        (
            {"class_type": "EmptyImage", "inputs": {"width": 1, "height": 1, "batch_size": 1}},
            {
                "type": "required_input_missing",
                "message": "Required input is missing",
                "details": "color",
                "extra_info": {"input_name": "color"},
            },
        ),
        (
            empty_image(width="abc"),
            {
                "type": "invalid_input_type",
                "message": "Failed to convert an input value to a INT value",
                "details": "width, abc, invalid literal for int() with base 10: 'abc'",
                "extra_info": {
                    "input_name": "width",
                    "input_config": SIZE,
                    "received_value": "abc",
                    "exception_message": "invalid literal for int() with base 10: 'abc'",
                },
            },
        ),
        (
            empty_image(width=0),
            {
                "type": "value_smaller_than_min",
                "message": "Value 0 smaller than min of 1",
                "details": "width",
                "extra_info": {"input_name": "width", "input_config": SIZE, "received_value": 0},
            },
        ),
        (
            empty_image(width=99999),
            {
                "type": "value_bigger_than_max",
                "message": "Value 99999 bigger than max of 16384",
                "details": "width",
                "extra_info": {"input_name": "width", "input_config": SIZE, "received_value": 99999},
            },
        ),
        (
            node("Scale", image=["0", 0], method="wide", factor=1),
            {
                "type": "value_not_in_list",
                "message": "Value not in list",
                "details": "method: 'wide' not in ['near', 'far']",
                "extra_info": {
                    "input_name": "method",
                    "input_config": [["near", "far"], {}],
                    "received_value": "wide",
                },
            },
        ),
        (
            node("ImageInvert", image=["0", 0, 0]),
            {
                "type": "bad_linked_input",
                "message": "Bad linked input, must be a length-2 list of [node_id, slot_index]",
                "details": "image",
                "extra_info": {
                    "input_name": "image",
                    "input_config": ["IMAGE", {}],
                    "received_value": ["0", 0, 0],
                },
            },
        ),
        (
            node("ImageInvert", image=["9", 0]),
            {
                "type": "bad_linked_input",
                "message": "Bad linked input, the linked node does not exist",
                "details": "image: no node '9'",
                "extra_info": {"input_name": "image", "input_config": ["IMAGE", {}], "received_value": ["9", 0]},
            },
        ),
        (
            node("ImageInvert", image=["0", 1]),
            {
                "type": "bad_linked_input",
                "message": "Bad linked input, the linked node has no such output",
                "details": "image: node '0' (EmptyImage) has 1 outputs, no slot 1",
                "extra_info": {"input_name": "image", "input_config": ["IMAGE", {}], "received_value": ["0", 1]},
            },
        ),
        (
            node("ImageInvert", image=["m", 0]),
            {
                "type": "return_type_mismatch",
                "message": "Return type mismatch between linked nodes",
                "details": "image, received_type(MASK) mismatch input_type(IMAGE)",
                "extra_info": {
                    "input_name": "image",
                    "input_config": ["IMAGE", {}],
                    "received_type": "MASK",
                    "linked_node": ["m", 0],
                },
            },
        ),
    ],
)
def test_a_wrong_input_is_reported_as_comfyui_does(culprit: dict[str, Any], expected: dict[str, Any]) -> None:
    prompt = {"0": empty_image(), "m": node("SolidMask"), "1": culprit, "2": node("Preview", images=["1", 0])}
    verdict = validate_prompt(prompt, NODES)
    assert not verdict.valid
    assert verdict.error == {
        "type": "prompt_outputs_failed_validation",
        "message": "Prompt outputs failed validation",
        "details": "",
        "extra_info": {},
    }
    assert verdict.node_errors == {
        "1": {"errors": [expected], "dependent_outputs": ["2"], "class_type": culprit["class_type"]}
    }


def test_errors_of_the_output_nodes_themselves_are_the_details() -> None:
    verdict = validate_prompt({"2": node("Preview"), "3": node("Any")}, NODES)
    assert verdict.error is not None
    assert verdict.error["details"] == "Required input is missing: images\nRequired input is missing: source"


def test_a_long_combo_is_not_repeated() -> None:
    [error] = errors_of({"1": node("Long", file="x"), "2": node("Any", source=["1", 0])}, "1")
    assert error["details"] == "file: 'x' not in (list of length 21)"
    assert error["extra_info"] == {"input_name": "file", "input_config": None, "received_value": "x"}


def test_some_good_outputs_run_and_the_others_are_reported() -> None:
    prompt = {
        "1": empty_image(),
        "2": node("Preview", images=["1", 0]),
        "3": empty_image(width=0),
        "4": node("Preview", images=["3", 0]),
        "5": node("Any", source=["3", 0]),
    }
    verdict = validate_prompt(prompt, NODES)
    assert verdict.valid
    assert verdict.error is None
    assert verdict.outputs == ("2",)
    assert verdict.node_errors["3"]["dependent_outputs"] == ["4", "5"]


def test_targets_narrow_the_outputs() -> None:
    prompt = {"1": empty_image(), "2": node("Preview", images=["1", 0]), "3": node("Preview", images=["1", 9])}
    verdict = validate_prompt(prompt, NODES, targets=["2"])
    assert verdict.outputs == ("2",)
    assert verdict.node_errors == {}
    assert validate_prompt(prompt, NODES, targets=["1", "77"]).error["type"] == "prompt_no_outputs"  # type: ignore[index]


def test_what_no_output_needs_is_not_judged() -> None:
    prompt = {"1": empty_image(), "2": node("Preview", images=["1", 0]), "3": empty_image(width="bad")}
    assert validate_prompt(prompt, NODES).node_errors == {}


def test_constants_are_cast_in_place() -> None:
    prompt = {
        "1": empty_image(width="12", height=3.9, color={"__value__": True}),
        "2": node("Scale", image=["1", 0], method="far", factor="2"),
        "3": node("Text", value={"__value__": [1, 2]}),
        "4": node("Flag", value=0),
        "5": {"class_type": "SolidMask"},
        "6": node("Preview", images=["2", 0]),
        **{f"s{i}": node("Any", source=[str(i), 0]) for i in (3, 4, 5)},
    }
    assert validate_prompt(prompt, NODES).node_errors == {}
    assert prompt["1"]["inputs"] == {"width": 12, "height": 3, "batch_size": 1, "color": 1}
    assert prompt["2"]["inputs"]["factor"] == 2.0
    assert prompt["3"]["inputs"]["value"] == "[1, 2]"
    assert prompt["4"]["inputs"]["value"] is False
    assert prompt["5"]["inputs"] == {}
    judged = json.loads(json.dumps(prompt))
    assert validate_prompt(prompt, NODES).node_errors == {}
    assert prompt == judged


def test_a_wrapped_constant_is_judged_and_stays_wrapped() -> None:
    like_a_link = {"__value__": ["1", 0]}
    prompt = {"1": node("Any", source=like_a_link)}
    for _ in range(2):
        assert validate_prompt(prompt, NODES).node_errors == {}
    assert prompt["1"]["inputs"]["source"] == like_a_link
    wrong = {"1": empty_image(width={"__value__": [3]}), "2": node("Preview", images=["1", 0])}
    [error] = validate_prompt(wrong, NODES).node_errors["1"]["errors"]
    assert (error["type"], error["extra_info"]["received_value"]) == ("invalid_input_type", [3])


@pytest.mark.parametrize(
    ("received", "expected", "match"),
    [
        ("IMAGE", "IMAGE", True),
        ("IMAGE", "MASK", False),
        ("*", "MASK", True),
        ("MASK", "*", True),
        ("A,B", "B, C", True),
        ("A,B", "C", False),
        ("A", "A,B", True),
        ("X,*", "C", True),
        (["a"], ["a"], True),
        (["a"], ["b"], False),
        ("STRING", ["a"], False),
        ("*", ["a"], True),
    ],
)
def test_types_match_by_name_union_and_wildcard(received: Any, expected: Any, match: bool) -> None:
    assert types_match(received, expected) is match


def test_a_union_output_feeds_a_union_input() -> None:
    prompt = {"1": node("Long", file="1.png"), "2": node("Union", source=["1", 0])}
    assert validate_prompt(prompt, NODES).valid


def test_a_cycle_is_named() -> None:
    prompt = {
        "a": node("ImageInvert", image=["b", 0]),
        "b": node("ImageInvert", image=["a", 0]),
        "out": node("Preview", images=["a", 0]),
    }
    verdict = validate_prompt(prompt, NODES)
    assert not verdict.valid
    assert verdict.error is not None
    assert verdict.error["type"] == "prompt_outputs_failed_validation"
    assert verdict.error["details"] == "Dependency cycle: a → b → a. Remove one of these links."
    assert set(verdict.node_errors) == {"a", "b"}
    [error] = verdict.node_errors["a"]["errors"]
    assert error["type"] == "dependency_cycle"
    assert error["extra_info"] == {"node_ids": ["a", "b"]}
    assert verdict.node_errors["b"]["dependent_outputs"] == ["out"]


def test_a_node_that_links_to_itself_is_a_cycle() -> None:
    verdict = validate_prompt({"a": node("Any", source=["b", 0]), "b": node("ImageInvert", image=["b", 0])}, NODES)
    assert verdict.error is not None
    assert "b → b" in verdict.error["details"]


class TestValidationByCode:
    prompt = staticmethod(lambda **inputs: {"1": node("Coded", **inputs), "2": node("Any", source=["1", 0])})

    def test_limits_do_not_apply_to_inputs_that_code_judges(self) -> None:
        by_code = {"Coded": ("number",)}
        assert validate_prompt(self.prompt(number=99), NODES, validated_by_code=by_code).valid
        assert not validate_prompt(self.prompt(number=9, other=99), NODES, validated_by_code=by_code).valid
        all_ = {"Coded": ("*",)}
        assert validate_prompt(self.prompt(number=99, other=99), NODES, validated_by_code=all_).valid

    def test_a_refusal_is_reported_for_its_argument(self) -> None:
        [first, second] = errors_of(
            self.prompt(number=1),
            "1",
            validated_by_code={"Coded": ("number",)},
            check_by_code=lambda node_id, types: [("number", False), ("number", "only even numbers")],
        )
        assert first == {
            "type": "custom_validation_failed",
            "message": "Custom validation failed for node",
            "details": "number",
            "extra_info": {"input_name": "number"},
        }
        assert second["details"] == "number - only even numbers"

    def test_code_that_raises_is_reported_where_it_was_met(self) -> None:
        def fail(node_id: str, types: Any) -> Any:
            raise RuntimeError("unlucky")

        inner = {"validated_by_code": {"Coded": ("number",)}, "check_by_code": fail}
        [error] = errors_of(self.prompt(number=1), "1", **inner)
        assert error["type"] == "exception_during_inner_validation"
        assert error["details"] == "unlucky"
        info = error["extra_info"]
        assert info.pop("traceback")
        assert info == {
            "input_name": "source",
            "input_config": ["*", {}],
            "exception_message": "unlucky",
            "exception_type": "RuntimeError",
            "linked_node": ["1", 0],
        }
        outer = {"validated_by_code": {"Any": ("source",)}, "check_by_code": fail}
        [error] = errors_of(self.prompt(number=1), "2", **outer)
        assert error["type"] == "exception_during_validation"
        assert set(error["extra_info"]) == {"exception_type", "traceback"}

    def test_code_that_takes_input_types_judges_the_types(self) -> None:
        seen: list[Any] = []

        def look(node_id: str, types: Any) -> list[tuple[str, Any]]:
            seen.append((node_id, dict(types)))
            return []

        prompt = {"1": node("SolidMask"), "2": node("Preview", images=["1", 0])}
        by_code = {"Preview": ("input_types",)}
        assert validate_prompt(prompt, NODES, validated_by_code=by_code, check_by_code=look).valid
        assert seen == [("2", {"images": "MASK"})]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["1", "2", "o"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
NODE = st.fixed_dictionaries(
    {"class_type": st.sampled_from(list(NODES))},
    optional={
        "inputs": st.dictionaries(
            st.sampled_from(
                ["image", "images", "source", "width", "height", "method", "factor", "value", "number"]
            ),
            JSON | st.tuples(st.sampled_from(["1", "2", "o"]), st.integers(-1, 1)).map(list),
            max_size=5,
        )
    },
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["1", "2", "o", "p"]), NODE | JSON, max_size=4) | JSON)
def test_no_json_makes_it_raise(prompt: Any) -> None:
    verdict = validate_prompt(prompt, NODES, validated_by_code={"Coded": ("number",)})
    assert verdict.valid == bool(verdict.outputs)
    assert verdict.valid or verdict.error is not None
    verdict.to_bytes()


@pytest.mark.parametrize("closed", [False, True])
def test_a_chain_of_20_000_nodes_is_judged_without_recursion(closed: bool) -> None:
    count = 20_000
    prompt: dict[str, Any] = {str(i): node("ImageInvert", image=[str(i - 1), 0]) for i in range(1, count)}
    prompt["0"] = node("ImageInvert", image=[str(count - 1), 0]) if closed else empty_image()
    prompt["out"] = node("Preview", images=[str(count - 1), 0])
    started = time.process_time()
    verdict = validate_prompt(prompt, NODES)
    assert verdict.valid is not closed
    assert time.process_time() - started < 20
    assert len(verdict.to_bytes()) < 100_000


def test_many_outputs_that_depend_on_many_errors_stay_affordable() -> None:
    prompt: dict[str, Any] = {
        str(i): node("Scale", image=[str(i - 1), 0], method="x", factor=1) for i in range(1, 3000)
    }
    prompt["0"] = empty_image(width=0)
    prompt |= {f"o{i}": node("Preview", images=["2999", 0]) for i in range(3000)}
    assert not validate_prompt(prompt, NODES).valid
