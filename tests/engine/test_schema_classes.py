"""Schemas, inputs, outputs and results of the newer schema, as classes by themselves."""

from __future__ import annotations

import abc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.engine.graph.links import ExecutionBlocker
from comfy_dist.engine.graph.schema import dynamic, types, widgets
from comfy_dist.engine.graph.schema.contract import older_contract
from comfy_dist.engine.graph.schema.definition import Schema, SchemaError
from comfy_dist.engine.graph.schema.hidden import Hidden, HiddenHolder
from comfy_dist.engine.graph.schema.node import ComfyNode, NodeOutput
from comfy_dist.engine.graph.schema.ports import ComfyTypeIO, Custom, TypeName, WidgetInput, comfytype

NAMES = st.lists(st.sampled_from(["A", "B", "C", "D"]), min_size=1, max_size=4, unique=True)


@given(NAMES, NAMES)
def test_type_names_differ_where_neither_holds_the_other(first: list[str], second: list[str]) -> None:
    one, other = TypeName(",".join(first)), ",".join(second)
    holds = set(first) <= set(second) or set(second) <= set(first)
    assert (one != other) is not holds
    assert (one == other) is (",".join(first) == other)
    assert not (one != "*")  # noqa: SIM202 - asks __ne__
    assert not (TypeName("*") != other)  # noqa: SIM202
    assert one != 5


class Sum(ComfyNode):
    shared: dict[str, int] = {}

    @classmethod
    def define_schema(cls) -> Schema:
        return Schema(
            "Sum",
            "A sum",
            inputs=[widgets.Int.Input("a", default=1), widgets.Int.Input("b", optional=True)],
            outputs=[
                widgets.Int.Output(display_name="sum", tooltip="a + b"),
                widgets.Int.Output(is_output_list=True),
            ],
            hidden=[Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, a: int, b: int = 0) -> NodeOutput:
        cls.shared["calls"] = cls.shared.get("calls", 0) + 1
        return NodeOutput(cls.added(a, b), [a, b])

    @classmethod
    def added(cls, a: int, b: int) -> int:
        return a + b


def test_a_class_has_the_older_contract_too() -> None:
    """Packs look at each other's classes by it."""
    assert Sum.RETURN_TYPES == ["INT", "INT"]
    assert Sum.RETURN_NAMES == ["sum", "INT"]
    assert Sum.OUTPUT_IS_LIST == [False, True]
    assert Sum.OUTPUT_TOOLTIPS == ["a + b", None]
    assert (Sum.CATEGORY, Sum.OUTPUT_NODE, Sum.INPUT_IS_LIST, Sum.DESCRIPTION) == ("sd", True, False, "")
    assert Sum.INPUT_TYPES() == {
        "required": {"a": ("INT", {"default": 1})},
        "optional": {"b": ("INT", {})},
        "hidden": {"unique_id": ("UNIQUE_ID",), "prompt": ("PROMPT",), "extra_pnginfo": ("EXTRA_PNGINFO",)},
    }
    result = getattr(Sum(), Sum.FUNCTION)(a=1, b=2)
    assert (result.result, result[0]) == ((3, [1, 2]), 3)


def test_calls_share_what_the_class_holds_but_cannot_assign_to_it() -> None:
    node = older_contract(Sum)()
    before = Sum.shared.get("calls", 0)
    assert node.run(a=1) == {"result": (1, [1, 0])}
    assert Sum.shared["calls"] == before + 1

    class Counting(Sum):
        calls = 0

        @classmethod
        def execute(cls, a: int, b: int = 0) -> NodeOutput:
            cls.calls += 1
            return super().execute(a, b)

    with pytest.raises(AttributeError, match=r"Counting\.calls cannot be assigned to while the node runs"):
        older_contract(Counting)().run(a=1)
    assert Counting.calls == 0


def test_abstract_and_static_nodes_run() -> None:
    class Base(Sum, abc.ABC):
        @classmethod
        @abc.abstractmethod
        def doubled(cls, a: int) -> int: ...

    class Double(Base):
        @classmethod
        def doubled(cls, a: int) -> int:
            return 2 * a

        @classmethod
        def execute(cls, a: int, b: int = 0) -> NodeOutput:
            return NodeOutput(cls.doubled(a), [])

    class Static(Sum):
        @staticmethod
        def execute(a: int, b: int = 0) -> NodeOutput:  # type: ignore[override]
            return NodeOutput(a, [])

    assert older_contract(Double)().run(a=2) == {"result": (4, [])}
    assert older_contract(Static)().run(a=2) == {"result": (2, [])}


def test_only_hooks_that_a_class_has_are_called() -> None:
    plain = older_contract(Sum)
    assert not [name for name in ("VALIDATE_INPUTS", "IS_CHANGED", "check_lazy_status") if hasattr(plain, name)]

    class Hooked(Sum):
        @classmethod
        def validate_inputs(cls, a: int) -> bool | str:
            return a > 0

        @classmethod
        def fingerprint_inputs(cls, **inputs: Any) -> Any:
            return cls.hidden.unique_id  # type: ignore[union-attr]

        @classmethod
        def check_lazy_status(cls, **inputs: Any) -> list[str]:
            return super().check_lazy_status(**inputs)

    hooked: Any = older_contract(Hooked)
    assert hooked.VALIDATE_INPUTS(a=1) is True
    assert hooked.IS_CHANGED(a=1) is None
    assert hooked().check_lazy_status(a=None, b=2) == ["a"]


@pytest.mark.parametrize(
    ("returned", "result"),
    [
        (None, {}),
        ((1, 2), {"result": (1, 2)}),
        (NodeOutput(1, 2), {"result": (1, 2)}),
        ({"result": (1, 2), "ui": {"text": ["a"]}}, {"result": (1, 2), "ui": {"text": ["a"]}}),
        (NodeOutput(ui={"text": ["a"]}), {"ui": {"text": ["a"]}}),
    ],
)
def test_results_become_those_of_the_older_contract(returned: Any, result: dict[str, Any]) -> None:
    returning = type("Returning", (Sum,), {"execute": classmethod(lambda cls: returned)})
    assert older_contract(returning)().run() == result


@pytest.mark.parametrize(
    "returned", [NodeOutput(block_execution="no"), ExecutionBlocker("no"), {"result": ExecutionBlocker("no")}]
)
def test_a_block_is_one_for_every_output(returned: Any) -> None:
    returning = type("Returning", (Sum,), {"execute": classmethod(lambda cls: returned)})
    first, second = older_contract(returning)().run()["result"]
    assert (first.message, second.message) == ("no", "no")


def test_inputs_that_grow_are_as_many_as_they_may_become() -> None:
    template = widgets.Float.Input("value", display_name="Value ", default=0.5)
    grown = dynamic.AutogrowDynamic.Input("values", template, min=2, max=4).expanded()
    assert [each.id for each in grown] == [f"value{number}_$values_ag$" for number in range(1, 5)]
    assert [each.optional for each in grown] == [False, False, True, True]
    assert [each.as_dict()["display_name"] for each in grown] == ["Value 1", "Value 2", "Value 3", "Value 4"]
    assert all(each.as_dict()["forceInput"] for each in grown)
    assert template.id == "value"
    with pytest.raises(ValueError, match="it needs 1 <= min <= max"):
        dynamic.AutogrowDynamic.Input("values", template, min=3, max=2)


def test_inputs_and_outputs_of_matching_types_share_a_template() -> None:
    template = dynamic.MatchType.Template("t", [types.Image, types.Mask])
    given_in = dynamic.MatchType.Input("a", template)
    given_out = dynamic.MatchType.Output("b", template)
    assert given_in.as_dict()["template"] == {"template_id": "t", "allowed_types": "IMAGE,MASK"}
    assert given_out.as_dict()["template"] == given_in.as_dict()["template"]
    assert (given_in.get_io_type(), given_out.io_type) == ("COMFY_MATCHTYPE_V3", "COMFY_MATCHTYPE_V3")


def test_packs_make_types_of_their_own() -> None:
    mine = Custom("MINE")
    assert (mine.io_type, mine.Input("a").io_type, mine.Output().io_type) == ("MINE", "MINE", "MINE")
    assert types.Image.Input("a").io_type == "IMAGE"

    @comfytype(io_type="KNOB")
    class Knob(ComfyTypeIO):
        Type = float

        class Input(WidgetInput):
            """Turned."""

    @comfytype("PLAIN")
    class Plain:
        Type = int

    assert Knob.Input("a", default=1.0).as_dict() == {"optional": False, "default": 1.0}
    assert (Knob.Input("a").get_io_type(), Knob.Input("a").Type) == ("KNOB", float)
    plain: Any = Plain
    assert (plain.Input("a").io_type, plain.Output().Type) == ("PLAIN", int)


def test_the_same_schema_may_be_finalized_twice() -> None:
    schema = Sum.define_schema()
    schema.finalize()
    once = schema.object_info("pack")
    schema.finalize()
    schema.validate()
    assert schema.object_info("pack") == once
    assert [each.id for each in schema.outputs] == ["_0_INT_", "_1_INT_"]


def test_what_is_not_hidden_is_none() -> None:
    holder = HiddenHolder.from_dict({Hidden.unique_id: "5"})
    assert (holder.unique_id, holder.prompt, holder.whatever) == ("5", None, None)


def test_a_class_without_its_methods_says_so() -> None:
    with pytest.raises(SchemaError, match="ComfyNode has no define_schema"):
        ComfyNode.GET_SCHEMA()
