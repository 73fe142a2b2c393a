"""The prompts whose answers and events are recorded.

Texts differ between cases, so that none finds another's cache. A stock ComfyUI takes output nodes in an order that
is not the same in each run, so where it would matter a case has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.engine.prompts import node


@dataclass(frozen=True)
class Step:
    """One POST /prompt and what is done with it."""

    prompt: dict[str, Any]
    targets: tuple[str, ...] | None = None
    #: Post without a client id; another client listens.
    anonymous: bool = False
    #: Interrupt after the first progress.
    interrupt: bool = False
    #: How often a node reports progress is not compared.
    steps_count: bool = True


def sink(source: str, slot: int = 0) -> dict[str, Any]:
    return node("TestSink", value=[source, slot])


def with_sink(culprit: dict[str, Any], **others: dict[str, Any]) -> dict[str, Any]:
    """`culprit` as node 1 before a sink, node 2."""
    return {"1": culprit, "2": sink("1"), **others}


def types(**inputs: Any) -> dict[str, Any]:
    return with_sink(node("ContractTypes", **({"combo": "a"} | inputs)), s=node("PrimitiveString", value="x"))


IMAGE = node("EmptyImage", width=8, height=8, batch_size=1, color=0)

#: Bodies of POST /prompt that are judged, most of them refused.
VALIDATIONS: dict[str, dict[str, Any]] = {
    name: {"prompt": prompt}
    for name, prompt in {
        "no class": {"1": {"inputs": {}}},
        "unknown class": {"1": node("NoSuchNode")},
        "empty": {},
        "no outputs": {"1": node("PrimitiveString", value="x")},
        "required missing": with_sink(node("ContractVariadic")),
        "required missing at an output": {"1": node("TestSink")},
        "link of three": with_sink(node("ContractVariadic", first=["1", 0, 0])),
        "type mismatch": with_sink(node("ContractTypes", combo="a", image=["s", 0]), s=IMAGE | node("TestHidden")),
        "return type mismatch": {
            "1": node("ContractTypes", combo="a", number=["i", 0]),
            "2": sink("1"),
            "i": IMAGE,
        },
        "return type mismatch of an output": {
            "1": node("PreviewImage", images=["s", 0]),
            "s": node("PrimitiveString", value="x"),
        },
        "not a number": types(number="abc"),
        "not a real": types(real="abc"),
        "smaller than min": types(number=0),
        "bigger than max": types(number=6),
        "real smaller than min": types(real=0.25),
        "real bigger than max": types(real=2),
        "not in list": types(combo="c"),
        "not in a long list": types(long_combo="none"),
        "not in new list": types(new_combo="c"),
        "many errors": types(combo="c", number=6, real="x"),
        "cast": types(number="3", real="1", flag=0, text=5, union="anything", any={"__value__": [1, 2]}),
        "union of another type": types(union=["s", 0]),
        "union": {**types(union=["n", 0]), "n": node("ContractValidateNamed", number=2)},
        "unknown inputs": types(nothing=1),
        "some outputs good": {
            **types(number=0),
            "3": sink("1"),
            "4": node("PreviewAny", source="good"),
        },
        "two outputs bad": {"1": node("TestSink"), "2": node("PreviewAny"), "3": sink("1")},
        "bad, not needed": {"1": node("ContractVariadic"), "2": node("PreviewAny", source="x")},
        "link to nowhere": with_sink(node("ContractVariadic", first=["9", 0])),
        "no such slot": with_sink(node("ContractVariadic", first=["s", 4]), s=node("PrimitiveString", value="x")),
        "no inputs": with_sink({"class_type": "ContractMend"}),
        "cycle": {
            "1": node("ContractVariadic", first=["2", 0]),
            "2": node("ContractVariadic", first=["1", 0]),
            "3": sink("2"),
        },
        "code: refused by False": with_sink(node("ContractValidateNamed", number=3)),
        "code: limits not applied": with_sink(node("ContractValidateNamed", number=99)),
        "code: limits of others applied": with_sink(node("ContractValidateNamed", number=99, other=99)),
        "code: linked is None": with_sink(
            node("ContractValidateNamed", number=["n", 0], linked=["n", 0]), n=node("PrimitiveInt", value=3)
        ),
        "code: all": with_sink(node("ContractValidateAll", number=3, other=99)),
        "code: all, good": with_sink(node("ContractValidateAll", number=4, other=99)),
        "code: types": with_sink(
            node("ContractValidateTypes", number=["s", 0], linked=["n", 0]),
            s=node("PrimitiveString", value="x"),
            n=node("PrimitiveInt", value=3),
        ),
        "code: types, good": with_sink(
            node("ContractValidateTypes", number=["n", 0]), n=node("PrimitiveInt", value=3)
        ),
        "code: types, constants": with_sink(node("ContractValidateTypes", number=99)),
        "code: hidden": {"bad": node("ContractValidateHidden", number=1), "2": sink("bad")},
        "code: hidden, good": with_sink(node("ContractValidateHidden", number=1)),
        "code: async": with_sink(node("ContractValidateAsync", number=3)),
        "code: no arguments": with_sink(node("ContractValidateBare", number=1)),
        "code: no arguments, raises": with_sink(node("ContractValidateBareRaise", number=1)),
        "code: raises": with_sink(node("ContractValidateRaise", number=1)),
        "code: raises twice": {**with_sink(node("ContractValidateRaise", number=1)), "3": sink("1")},
    }.items()
} | {
    "no prompt": {"client_id": "x"},
    "targets": {
        "prompt": {"1": node("PreviewAny", source="t"), "2": node("TestSink")},
        "partial_execution_targets": ["1"],
    },
    "targets without output": {"prompt": with_sink(IMAGE), "partial_execution_targets": ["1"]},
    "no targets": {"prompt": with_sink(IMAGE), "partial_execution_targets": []},
    "a bad target": {
        "prompt": {"1": node("PreviewAny", source="t"), "2": node("TestSink")},
        "partial_execution_targets": ["2"],
    },
}


def text(value: str) -> dict[str, Any]:
    return node("PrimitiveString", value=value)


def switch(tag: str, class_type: str = "TestSwitch") -> dict[str, Any]:
    return {
        "a": text(f"{tag} a"),
        "b": text(f"{tag} b"),
        "s": node(class_type, first=True, a=["a", 0], b=["b", 0]),
        "out": sink("s"),
    }


def expanding(kind: str) -> dict[str, Any]:
    return {
        "0": text(f"to expand: {kind}"),
        "1": node("ContractExpand", kind=kind, value=["0", 0]),
        "2": sink("1"),
    }


def numbers(culprit: str, **inputs: Any) -> dict[str, Any]:
    return {
        "1": node("ContractMany", count=3),
        "2": node(culprit, value=["1", 0], **inputs),
        "3": sink("2"),
    }


def joined(links: dict[str, Any], **nodes: dict[str, Any]) -> dict[str, Any]:
    """`nodes`, and what the links bring in one sink."""
    return {**nodes, "8": node("ContractVariadic", first="", **links), "9": sink("8")}


_MARKED = {
    "1": node("ContractFingerprint", always=False, mark="kept", value=["0", 0]),
    "0": text("marked"),
    "2": sink("1"),
}
_SUCCESS = {
    "1": text("success"),
    "2": node("TestConcat", a=["1", 0], b="!"),
    "3": sink("2"),
}

#: What is executed, step by step.
EXECUTIONS: dict[str, list[Step]] = {
    "success": [Step(_SUCCESS)],
    "all cached": [Step({"1": text("cached"), "2": sink("1")})] * 2,
    "partly cached": [
        Step({"1": text("partly"), "2": node("TestConcat", a=["1", 0], b=end), "3": sink("2")})
        for end in ("a", "b")
    ],
    "error": [Step({"1": text("error"), "2": node("TestFail", message="boo", value=["1", 0]), "3": sink("2")})],
    "error after an output": [
        Step({"1": node("PreviewAny", source="early"), "2": node("TestFail", message="late"), "3": sink("2")})
    ],
    "error in an expansion": [Step(expanding("fail"))],
    "error in a nested expansion": [Step(expanding("nested fail"))],
    "expansion": [Step(expanding("same")), Step(expanding("same"))],
    "nested expansion": [Step(expanding("nested"))],
    "expansion shown elsewhere": [Step({**expanding("display"), "elsewhere": text("not run")})],
    "expansions into equal nodes": [
        Step(
            joined(
                {"a": ["1", 0], "b": ["2", 0]},
                **{
                    "0": text("to expand twice"),
                    "1": node("ContractExpand", kind="same", value=["0", 0]),
                    "2": node("ContractExpand", kind="nested", value=["0", 0]),
                },
            )
        )
    ],
    "shown in the middle": [
        Step(
            {"1": node("ContractAside", value="aside"), "2": node("TestConcat", a=["1", 0], b=end), "3": sink("2")}
        )
        for end in "ab"
    ],
    "expansion of some items": [
        Step(
            {
                "1": node("ContractMany", count=3),
                "2": node("ContractExpandEach", value=["1", 0]),
                "3": node("TestJoin", value=["2", 0], separator="+"),
                "4": sink("3"),
            }
        )
    ],
    "expansion into itself": [Step({"1": node("ContractLoop", count=3, text="loop"), "2": sink("1")})],
    "expansion without result": [
        Step({"1": text("w"), "2": node("ContractExpand", kind="no result", value=["1", 0]), "3": sink("2")})
    ],
    "expansion into an output": [Step({"1": node("TestExpandOutput", text="deep", fail=False)})],
    "expansion into a blocker": [Step(expanding("block"))],
    "expansion into a cycle": [Step(expanding("cycle"))],
    "expansion with an id twice": [
        Step(
            {
                "1": node("ContractMany", count=2),
                "2": node("ContractExpand", kind="duplicate", value=["1", 0]),
                "3": sink("2"),
            }
        )
    ],
    "expansion into an unknown class": [Step(expanding("unknown"))],
    "blocker": [
        Step(
            {
                "1": node("TestBlock", message="", value="v"),
                "2": node("TestConcat", a=["1", 0], b="x"),
                "3": sink("2"),
                "4": node("PreviewAny", source="beside a blocker"),
            }
        )
    ],
    "blocker with a message": [
        Step(
            {
                "1": node("TestBlock", message="no way", value="v"),
                "2": node("TestConcat", a=["1", 0], b="x"),
                "3": sink("2"),
                "4": node("PreviewAny", source="beside a message"),
            }
        )
    ],
    "blocker in a list": [Step(numbers("ContractBlockAt", item=1))],
    "blocker at once": [
        Step(joined({"a": ["1", 0], "b": ["1", 2]}, **{"1": node("ContractReturn", kind="blocker", index=0)}))
    ],
    "lazy": [Step(switch("lazy"))],
    "lazy, asked by a coroutine": [Step(switch("lazy async", "ContractAsyncSwitch"))],
    "lazy asks for what is not linked": [Step(with_sink(node("ContractAsk", name="name")))],
    "lazy asks for what is not there": [Step(with_sink(node("ContractAsk", name="nothing")))],
    "lists": [
        Step(
            {
                "1": node("TestList", text="a\nb\nc"),
                "2": node("TestList", text="1\n2"),
                "3": node("TestConcat", a=["1", 0], b=["2", 0]),
                "4": node("TestJoin", value=["3", 0], separator="+"),
                "5": sink("4"),
                "6": sink("3"),
            }
        )
    ],
    "error in one of a list": [Step(numbers("ContractFailAt", item=1))],
    "async": [
        Step(
            joined(
                {"a": ["1", 0], "b": ["2", 0]},
                **{
                    "1": node("ContractAsyncAfter", value="slow", after="fast ended"),
                    "2": node("ContractAsyncAfter", value="fast", after="slow begun"),
                },
            )
        )
    ],
    "async error": [Step(with_sink(node("ContractAsyncFail", value="x")))],
    "interrupted": [
        Step(
            {"1": text("i"), "2": node("TestSleep", seconds=60, steps=600, value=["1", 0]), "3": sink("2")},
            interrupt=True,
            steps_count=False,
        )
    ],
    "interrupted in an expansion": [Step(expanding("slow"), interrupt=True, steps_count=False)],
    "no client id": [Step({"1": text("anonymous"), "2": sink("1")}, anonymous=True)],
    "targets": [
        Step({"1": text("t"), "2": sink("1"), "3": node("PreviewAny", source="not wanted")}, targets=("2",))
    ],
    "target behind another output": [
        Step({"1": node("ContractThrough", value="o"), "2": sink("1"), "3": sink("1")}, targets=("2",))
    ],
    "subgraph ids": [
        Step({"12:7": text("inner"), "12:8:3": node("TestConcat", a=["12:7", 0], b="x"), "12": sink("12:8:3")})
    ],
    "undeclared inputs": [
        Step(
            {
                "1": text("u"),
                "2": node("ContractVariadic", first="v", linked=["1", 0], constant="dropped"),
                "3": sink("2"),
            }
        )
    ],
    "wrapped list": [Step(types(combo={"__value__": "a"}, any={"__value__": [1, "a"]}))],
    "raw link": [Step({"1": text("raw"), "2": node("TestRawLink", value=["1", 0]), "3": sink("2")})],
    "fingerprint": [Step(_MARKED), Step(_MARKED)],
    "fingerprint of NaN": [
        Step({"1": node("ContractFingerprint", always=True, mark="n"), "2": sink("1")}),
        Step({"1": node("ContractFingerprint", always=True, mark="n"), "2": sink("1")}),
    ],
    "fingerprint that raises": [Step(with_sink(node("ContractFailFingerprint", value="f")))] * 2,
    "not idempotent": [
        Step({"1": node("ContractNotIdempotent", value="ni"), "2": sink("1")}),
        Step({"5": node("ContractNotIdempotent", value="ni"), "6": sink("5")}),
    ],
    "ids changed": [
        Step({"1": text("renamed"), "2": sink("1")}),
        Step({"5": text("renamed"), "6": sink("5")}),
    ],
    "the same twice": [
        Step(
            {"1": text("twin"), "2": text("twin"), "3": node("TestConcat", a=["1", 0], b=["2", 0]), "4": sink("3")}
        )
    ],
    "fails to be made": [Step(with_sink(node("ContractFailInit", value="x")))],
    "fails to tell its lazy status": [Step(with_sink(node("ContractFailLazy", value=["s", 0]), s=text("fl")))],
    **{
        f"returns {kind}": [
            Step(joined({"a": ["1", 0], "b": ["1", 2]}, **{"1": node("ContractReturn", kind=kind, index=0)}))
        ]
        for kind in (
            "list",
            "short",
            "long",
            "none",
            "number",
            "text",
            "dict",
            "result",
            "bad ui",
            "bad expand",
            "bad node",
        )
    },
    "returns uneven": [
        Step(
            {
                "1": node("ContractMany", count=2),
                "2": node("ContractReturn", kind="uneven", index=["1", 0]),
                "3": sink("2", 2),
            }
        )
    ],
    "shows text": [Step({"1": node("ContractShow", kind="text")})],
    "progress": [Step({"1": node("TestSleep", seconds=0, steps=3, value="p"), "2": sink("1")})],
    "preview": [Step(with_sink(node("ContractPreview", kind="PNG", mode="RGBA", longest=16)))],
    "preview larger": [Step(with_sink(node("ContractPreview", kind="JPEG", mode="RGB", longest=64)))],
}
