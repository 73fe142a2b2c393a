"""Node classes are read as packs write them, odd ways included."""

from __future__ import annotations

from typing import Any

import pytest

from comfy_dist.engine.graph.inputs import collect_inputs
from comfy_dist.engine.graph.node_class import InputTypes, NodeClass
from comfy_dist.engine.graph.object_info import describe, object_info
from comfy_dist.engine.graph.registry import Definitions, Registry
from comfy_dist.input_judging import types_match
from comfy_dist.validation import validate_prompt


class AnyType(str):
    """The wildcard as most packs write it."""

    __slots__ = ()
    __eq__ = str.__eq__
    __hash__ = str.__hash__

    def __ne__(self, other: object) -> bool:
        return False


class OpenDict(dict[str, Any]):
    """Has every name, and gives any type for it."""

    def __contains__(self, name: object) -> bool:
        return True

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name) if name in self.keys() else (AnyType("*"),)


def made(inputs: Any = None, **attributes: Any) -> type:
    """A class of the older contract."""
    inputs = {"required": {}} if inputs is None else inputs
    more = {
        "INPUT_TYPES": classmethod(lambda cls: inputs),
        "RETURN_TYPES": (),
        "FUNCTION": "run",
        "run": lambda self: (),
    }
    return type("Node", (), more | attributes)


def read(node: type) -> NodeClass:
    return NodeClass.of("Node", node, "A node", "custom_nodes.pack")


@pytest.mark.parametrize(
    ("declared", "types"),
    [
        (("IMAGE", "MASK"), ["IMAGE", "MASK"]),
        (["IMAGE"], ["IMAGE"]),
        # ("IMAGE") without its comma
        ("IMAGE", ["IMAGE"]),
        ((), []),
        (None, []),
        ((AnyType("*"), AnyType("anything")), ["*", "*"]),
        ((["a", "b"], "INT"), [["a", "b"], "INT"]),
        (("INT,FLOAT",), ["INT,FLOAT"]),
    ],
)
def test_return_types_of_any_shape(declared: Any, types: list[Any]) -> None:
    node = read(made(RETURN_TYPES=declared))
    assert list(node.return_types) == types
    assert len(node.output_is_list) == len(types)
    entry = describe(node)
    assert entry["output"] == types
    assert entry["output_name"] == types


def test_a_tuple_that_has_every_index_gives_any_number_of_outputs() -> None:
    class First(tuple[Any, ...]):
        """As packs declare outputs that the page adds."""

        __slots__ = ()

        def __getitem__(self, index: Any) -> Any:
            return super().__getitem__(0)

    registry = Registry()
    outputs = {"Open": First(("*",)), "Closed": ("*",)}
    taking = made({"required": {"value": ("INT",)}}, OUTPUT_NODE=True)
    registry.add(
        {name: made(RETURN_TYPES=types) for name, types in outputs.items()} | {"Taking": taking}, {}, "pack"
    )
    for name, entries in (("Open", [[0, True], [7, True], [-1, False]]), ("Closed", [[0, True], [1, False]])):
        for slot, valid in entries:
            prompt = {
                "1": {"class_type": name, "inputs": {}},
                "2": {"class_type": "Taking", "inputs": {"value": ["1", slot]}},
            }
            # As engines see the classes, and as frontends see them.
            assert validate_prompt(prompt, Definitions(registry)).valid is valid, (name, slot)
            assert validate_prompt(prompt, object_info(registry)).valid is valid, (name, slot)


@pytest.mark.parametrize(
    ("declared", "is_list"),
    [((True,), (True, False)), ((), (False, False)), (None, (False, False)), ((1, 0, 1), (True, False))],
)
def test_output_is_list_fits_the_outputs(declared: Any, is_list: tuple[bool, ...]) -> None:
    assert read(made(RETURN_TYPES=("A", "B"), OUTPUT_IS_LIST=declared)).output_is_list == is_list


def test_names_of_outputs_may_be_a_text_too() -> None:
    assert describe(read(made(RETURN_TYPES="IMAGE", RETURN_NAMES="picture")))["output_name"] == ["picture"]


def test_inputs_of_any_shape_are_plain_data() -> None:
    inputs = {
        "required": {
            "any": (AnyType("*"), {"forceInput": True}),
            "combo": (["a", "b"], {"default": "a"}),
            "newer": ("COMBO", {"options": ["a", "b"]}),
            "union": ("INT,FLOAT",),
            "text": "STRING",
            "tuple": (("a", "b"),),
            "infinite": ("FLOAT", {"max": float("inf")}),
            "strange": ("INT", {"default": object}),
        },
        "optional": None,
        "hidden": {"own": "UNIQUE_ID"},
    }
    entry = describe(read(made(inputs)))
    required = entry["input"]["required"]
    assert {name: info[0] for name, info in required.items()} == {
        "any": "*",
        "combo": ["a", "b"],
        "newer": "COMBO",
        "union": "INT,FLOAT",
        "text": "STRING",
        "tuple": ["a", "b"],
        "infinite": "FLOAT",
        "strange": "INT",
    }
    assert required["strange"][1]["default"] == "<class 'object'>"
    assert entry["input_order"] == {"required": list(required), "optional": [], "hidden": ["own"]}
    types = InputTypes.of(read(made(inputs)).declared_inputs())
    assert types.hidden == {"own": "UNIQUE_ID"}
    assert types.options["combo"] == {"default": "a"}
    assert types.options["union"] == {}


def test_types_that_cannot_be_hashed_are_types() -> None:
    class Equal(str):
        """Equal to everything, and so without a hash."""

        def __eq__(self, other: object) -> bool:
            return True

        def __ne__(self, other: object) -> bool:
            return False

    inputs = {"required": {"a": (Equal("*"),)}, "hidden": {"b": (Equal("*"),), "c": (["x"],), "d": ({},)}}
    node = read(made(inputs, RETURN_TYPES=(Equal("*"),)))
    assert node.return_types == ("*",)
    assert set(InputTypes.of(node.declared_inputs()).options) == {"a", "b", "c", "d"}
    assert describe(node)["input"]["hidden"] == {"b": ["*"], "c": [["x"]], "d": [{}]}


def test_a_dict_that_has_every_name_may_list_none() -> None:
    types = InputTypes.of(read(made({"required": {}, "optional": OpenDict()})).declared_inputs())
    assert collect_inputs({"made_up": 1}, types, None)[0] == {"made_up": [1]}


@pytest.mark.parametrize("category", ["required", "optional"])
def test_a_dict_that_has_every_name_takes_every_input(category: str) -> None:
    node = read(made({category: OpenDict({"first": ("INT", {"lazy": True})})}))
    assert describe(node)["input"] == {category: {"first": ["INT", {"lazy": True}]}}
    types = InputTypes.of(node.declared_inputs())
    values, missing = collect_inputs({"first": 1, "made_up": {"on": True}, "linked": ["1", 0]}, types, None)
    assert values == {"first": [1], "made_up": [{"on": True}], "linked": [None]}
    assert missing == {"linked"}
    closed = InputTypes.of(read(made({category: {"first": ("INT",)}})).declared_inputs())
    assert collect_inputs({"first": 1, "made_up": 2}, closed, None)[0] == {"first": [1]}


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda cls: True, ()),
        (lambda cls, a, b=None: True, ("a", "b")),
        (lambda cls, a, *rest, **others: True, ("a", "*")),
        (lambda cls, input_types: True, ("input_types",)),
        (lambda cls, /, *, a: True, ("a",)),
    ],
)
def test_what_validation_takes_is_read_from_its_signature(function: Any, names: tuple[str, ...]) -> None:
    assert read(made(VALIDATE_INPUTS=classmethod(function))).validates == names
    assert read(made()).validates is None


@pytest.mark.parametrize("raised", [KeyError("x"), SystemExit(1), RecursionError()])
def test_inputs_that_raise_later_leave_the_class_out_until_they_do_not(raised: BaseException) -> None:
    broken = False

    def inputs(cls: type) -> Any:
        if broken:
            raise raised
        return {"required": {}}

    registry = Registry()
    taken, refused = registry.add({"Node": made(INPUT_TYPES=classmethod(inputs)), "Other": made()}, {}, "pack")
    assert (taken, refused) == (["Node", "Other"], {})
    broken = True
    assert set(object_info(registry)) == {"Other"}
    assert Definitions(registry)["Node"]["fault"].startswith(f"INPUT_TYPES of Node raised {type(raised).__name__}")
    broken = False
    assert set(object_info(registry)) == {"Node", "Other"}
    assert "fault" not in Definitions(registry)["Node"]


def test_wildcards_and_unions_link() -> None:
    wildcard = read(made(RETURN_TYPES=(AnyType("*"),))).return_types[0]
    assert types_match(wildcard, "IMAGE")
    assert types_match("INT", "INT,FLOAT")
    assert not types_match("STRING", "INT,FLOAT")
