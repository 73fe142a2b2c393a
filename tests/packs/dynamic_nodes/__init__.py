"""Nodes that change the graph while it runs: lazy inputs, expansions, blockers, raw links."""

from comfy_execution.graph import ExecutionBlocker
from comfy_execution.graph_utils import GraphBuilder


class AnyType(str):
    """A type equal to every other, as many packs declare their wildcard."""

    def __ne__(self, other):
        return False

    __eq__ = str.__eq__
    __hash__ = str.__hash__


ANY = AnyType("*")


class _Node:
    __test__ = False
    RETURN_TYPES = (ANY,)
    FUNCTION = "run"
    CATEGORY = "testing"


class TestSwitch(_Node):
    """`a` or `b`; the other is never computed."""

    @classmethod
    def INPUT_TYPES(cls):
        lazy = (ANY, {"lazy": True})
        return {"required": {"first": ("BOOLEAN", {"default": True}), "a": lazy, "b": lazy}}

    def check_lazy_status(self, first, a=None, b=None):
        return ["a"] if first and a is None else ["b"] if not first and b is None else []

    def run(self, first, a=None, b=None):
        return (a if first else b,)


class TestBlock(_Node):
    """Blocks what comes after it, with a message if it has one."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"message": ("STRING", {"default": ""}), "value": (ANY, {})}}

    def run(self, message, value):
        return (ExecutionBlocker(message or None),)


class TestRepeat(_Node):
    """text, `times` times over, by expanding into as many TestConcat nodes, the last into itself."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "text": ("STRING", {"default": ""}),
                "times": ("INT", {"default": 1, "min": 1, "max": 100}),
            }
        }

    def run(self, text, times):
        if times == 1:
            return (text,)
        graph = GraphBuilder()
        rest = graph.node("TestRepeat", text=text, times=times - 1)
        both = graph.node("TestConcat", a=text, b=rest.out(0))
        return {"result": (both.out(0),), "expand": graph.finalize()}


class TestExpandOutput(_Node):
    """Expands into an output node and into one that fails if `fail`."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": ""}), "fail": ("BOOLEAN", {"default": False})}}

    def run(self, text, fail):
        graph = GraphBuilder()
        graph.node("PreviewAny", source=graph.node("TestFail", message=text).out(0) if fail else text)
        return {"result": (), "expand": graph.finalize()}


class TestRawLink(_Node):
    """The link itself, as text."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {"rawLink": True})}}

    def run(self, value):
        return (str(value),)


class TestHidden(_Node):
    """What it is given hidden, as text."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {},
            "hidden": {
                "prompt": "PROMPT",
                "dynprompt": "DYNPROMPT",
                "extra": "EXTRA_PNGINFO",
                "unique_id": "UNIQUE_ID",
                "key": "API_KEY_COMFY_ORG",
            },
        }

    def run(self, prompt, dynprompt, extra, unique_id, key):
        own = dynprompt.get_node(unique_id)["class_type"]
        return (f"{sorted(prompt)} {own} {extra} {unique_id} {key}",)


NODE_CLASS_MAPPINGS = {
    node.__name__: node for node in (TestSwitch, TestBlock, TestRepeat, TestExpandOutput, TestRawLink, TestHidden)
}
