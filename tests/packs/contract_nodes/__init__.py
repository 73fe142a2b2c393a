"""Nodes at the edges of ComfyUI's contract: odd returns, hooks that fail, expansions that go wrong.

Imports only what ComfyUI documents, so the pack loads in a stock ComfyUI too.
"""

import asyncio
import collections
import gc
import json
import weakref

import comfy.utils
from comfy_execution.graph import ExecutionBlocker
from comfy_execution.graph_utils import GraphBuilder
from PIL import Image


class AnyType(str):
    """A type equal to every other, as many packs declare their wildcard."""

    def __ne__(self, other):
        return False

    __eq__ = str.__eq__
    __hash__ = str.__hash__


ANY = AnyType("*")


class _Node:
    RETURN_TYPES = (ANY,)
    FUNCTION = "run"
    CATEGORY = "testing"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}, "optional": {"value": (ANY, {})}}

    def run(self, value=None):
        return (value,)


# Hooks that fail


class ContractFailInit(_Node):
    def __init__(self):
        raise RuntimeError("no instance")


class ContractFailFingerprint(_Node):
    @classmethod
    def IS_CHANGED(cls, value=None):
        raise RuntimeError("no fingerprint")


class ContractFailLazy(_Node):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {"lazy": True})}}

    def check_lazy_status(self, value=None):
        raise RuntimeError("no status")


class ContractFailLater(_Node):
    """Its INPUT_TYPES raises once it has run."""

    broken = False

    @classmethod
    def INPUT_TYPES(cls):
        if cls.broken:
            raise RuntimeError("no inputs any more")
        return _Node.INPUT_TYPES()

    def run(self, value=None):
        type(self).broken = True
        return (value,)


class ContractMend(_Node):
    """Makes ContractFailLater's INPUT_TYPES work again."""

    OUTPUT_NODE = True

    @classmethod
    def IS_CHANGED(cls, value=None):
        return float("nan")

    def run(self, value=None):
        ContractFailLater.broken = False
        return {"ui": {"text": ["mended"]}, "result": (value,)}


# Lazy inputs


class ContractAsk(_Node):
    """Asks for the input that `name` names, whatever it has."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"name": ("STRING", {"default": "value"})},
            "optional": {"value": (ANY, {"lazy": True})},
        }

    def check_lazy_status(self, name, value=None):
        return [name]

    def run(self, name, value=None):
        return (value,)


class ContractAsyncSwitch(_Node):
    """`a` or `b`, decided by a coroutine."""

    @classmethod
    def INPUT_TYPES(cls):
        lazy = (ANY, {"lazy": True})
        return {"required": {"first": ("BOOLEAN", {"default": True}), "a": lazy, "b": lazy}}

    async def check_lazy_status(self, first, a=None, b=None):
        await asyncio.sleep(0.001)
        return ["a"] if first and a is None else ["b"] if not first and b is None else []

    def run(self, first, a=None, b=None):
        return (a if first else b,)


# Fingerprints


class ContractFingerprint(_Node):
    """Always changes if `always`; else its outputs depend on `mark`, as a coroutine tells."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"always": ("BOOLEAN", {"default": False}), "mark": ("STRING", {"default": ""})},
            "optional": {"value": (ANY, {})},
        }

    @classmethod
    async def IS_CHANGED(cls, always, mark, value=None):
        assert value is None, "only constants are told"
        return float("nan") if always else mark

    def run(self, always, mark, value=None):
        return (value,)


class ContractNotIdempotent(_Node):
    NOT_IDEMPOTENT = True


# VALIDATE_INPUTS in its forms


class _Number(_Node):
    RETURN_TYPES = ("INT",)

    @classmethod
    def INPUT_TYPES(cls):
        limits = {"default": 0, "min": 0, "max": 10}
        return {
            "required": {"number": ("INT", limits)},
            "optional": {"other": ("INT", limits), "linked": ("INT", {"forceInput": True})},
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    def run(self, number, other=0, linked=0, unique_id=None):
        return (number + other + linked,)


class ContractValidateNamed(_Number):
    @classmethod
    def VALIDATE_INPUTS(cls, number, linked=None):
        assert linked is None, "only constants are told"
        return number != 3


class ContractValidateAll(_Number):
    @classmethod
    def VALIDATE_INPUTS(cls, **inputs):
        return True if inputs["number"] != 3 else f"no 3 among {sorted(inputs)}"


class ContractValidateTypes(_Number):
    @classmethod
    def VALIDATE_INPUTS(cls, input_types):
        wrong = sorted(f"{name}:{type_}" for name, type_ in input_types.items() if type_ not in ("INT", "FLOAT"))
        return ", ".join(wrong) or True


class ContractValidateHidden(_Number):
    @classmethod
    def VALIDATE_INPUTS(cls, unique_id):
        return True if unique_id != "bad" else "not in this place"


class ContractValidateAsync(_Number):
    @classmethod
    async def VALIDATE_INPUTS(cls, number):
        await asyncio.sleep(0.001)
        return True if number != 3 else "no 3"


class ContractValidateRaise(_Number):
    @classmethod
    def VALIDATE_INPUTS(cls, number):
        raise RuntimeError("no verdict")


class ContractValidateExit(_Number):
    @classmethod
    def VALIDATE_INPUTS(cls, number):
        raise SystemExit("no verdict")


class ContractValidateBare(_Number):
    """Names no input to refuse, but may raise."""

    @classmethod
    def VALIDATE_INPUTS(cls):
        return False


class ContractValidateBareRaise(_Number):
    @classmethod
    def VALIDATE_INPUTS(cls):
        raise RuntimeError("not on this machine")


# Types and options


class ContractTypes(_Node):
    """One input of every kind that is judged."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"combo": (["a", "b"], {})},
            "optional": {
                "new_combo": ("COMBO", {"options": ["a", "b"]}),
                "long_combo": ([f"{index}" for index in range(30)],),
                "number": ("INT", {"min": 1, "max": 5}),
                "real": ("FLOAT", {"min": 0.5, "max": 1.5}),
                "flag": ("BOOLEAN", {}),
                "text": ("STRING", {}),
                "union": ("INT,FLOAT", {}),
                "image": ("IMAGE",),
                "any": (ANY, {}),
            },
        }

    def run(self, **inputs):
        return (repr(sorted(inputs.items())),)


class ContractVariadic(_Node):
    """Joins whatever inputs it is given, declared or not."""

    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"first": ("STRING", {"default": ""})}}

    def run(self, first, **more):
        return (first + "".join(str(more[name]) for name in sorted(more)),)


# Returns and what is shown


class ContractReturn(_Node):
    """Returns 3 outputs as `kind` says."""

    RETURN_TYPES = ("INT", "INT", "INT")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"kind": ("STRING", {"default": "tuple"}), "index": ("INT", {"default": 0})}}

    def run(self, kind, index):
        return {
            "tuple": (1, 2, 3),
            "list": [1, 2, 3],
            "short": (1,),
            "long": (1, 2, 3, 4),
            "uneven": (1, 2, 3) if index else (1, 2),
            "none": None,
            "number": 5,
            "text": "abc",
            "dict": {"nothing": 1},
            "result": {"result": (1, 2, 3)},
            "blocker": ExecutionBlocker(None),
            "bad ui": {"ui": ["not a dict"], "result": (1, 2, 3)},
            "bad expand": {"expand": ["not a graph"], "result": (1, 2, 3)},
            "bad node": {"expand": {"new": "not a node"}, "result": (1, 2, 3)},
        }[kind]


class ContractShow(_Node):
    """Shows what JSON has no form for."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"kind": ("STRING", {"default": "set"})}}

    def run(self, kind):
        endless = []
        endless.append(endless)
        deep = []
        for _ in range(100_000):
            deep = [deep]
        shown = {
            "set": [{1}],
            "object": [object()],
            "nan": [float("nan")],
            "keys": [{(1, 2): 3}],
            "text": "abc",
            "endless": endless,
            "deep": deep,
        }
        return {"ui": {"shown": shown[kind]}}


class ContractThrough(_Node):
    """An output node that other nodes may follow."""

    OUTPUT_NODE = True

    def run(self, value=None):
        return {"ui": {"text": [str(value)]}, "result": (value,)}


class ContractAside(ContractThrough):
    """The same, but no output node."""

    OUTPUT_NODE = False


class ContractMany(_Node):
    """A list of `count` numbers."""

    RETURN_TYPES = ("INT",)
    OUTPUT_IS_LIST = (True,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"count": ("INT", {"default": 3, "min": 0})}}

    def run(self, count):
        return (list(range(count)),)


class ContractFailAt(_Node):
    """Fails for the item that equals `item`."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {}), "item": ("INT", {"default": 0})}}

    def run(self, value, item):
        if value == item:
            raise RuntimeError(f"not {item}")
        return (value,)


class ContractBlockAt(ContractFailAt):
    """Blocks the item that equals `item`."""

    def run(self, value, item):
        return (ExecutionBlocker("blocked here") if value == item else value,)


class _Block:
    """Something that ends when nobody holds it any more."""


class ContractBlock(_Node):
    """Gives a new block, and shows how many there are."""

    alive = weakref.WeakSet()

    def run(self, value=None):
        block = _Block()
        self.alive.add(block)
        return {"ui": {"alive": [len(self.alive)]}, "result": (block,)}


class ContractAsyncFail(_Node):
    async def run(self, value=None):
        await asyncio.sleep(0.01)
        raise RuntimeError("failed while waiting")


class ContractAsyncFailAt(ContractFailAt):
    """Fails for the item that equals `item`; the others wait for a minute, and count those that do."""

    waiting = set()

    async def run(self, value, item):
        self.waiting.add(value)
        try:
            await asyncio.sleep(0.01 if value == item else 60)
        finally:
            self.waiting.remove(value)
        raise RuntimeError(f"not {item}")


class ContractAsyncAfter(_Node):
    """Tells its progress and gives `value`, after "x begun" or "x ended": x is what another of these gives."""

    events = collections.defaultdict(asyncio.Event)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("STRING", {"default": ""}), "after": ("STRING", {"default": ""})}}

    async def run(self, value, after):
        self.events[f"{value} begun"].set()
        if after:
            await self.events[after].wait()
            # Who executes the nodes learns of an end some turns of the loop later.
            for _ in range(100):
                await asyncio.sleep(0)
        comfy.utils.ProgressBar(1).update(1)
        self.events[f"{value} ended"].set()
        return (value,)


class ContractHiddenAfter(ContractAsyncAfter):
    """The same of a class that our engine takes for one that plans put into prompts."""

    COMFY_DIST_HIDDEN = True


class ContractTold(_Node):
    """Shows what an engine of ours was told of the attempt."""

    OUTPUT_NODE = True
    RETURN_TYPES = ()

    def run(self, value=None):
        from comfy_dist.calls import running_job

        return {"ui": {"text": [json.dumps(running_job.told)]}}


class ContractWaiting(_Node):
    """Shows the items that ContractAsyncFailAt waits with, and has Python tell of tasks that nobody asked."""

    OUTPUT_NODE = True
    NOT_IDEMPOTENT = True

    @classmethod
    def IS_CHANGED(cls, value=None):
        return float("nan")

    def run(self, value=None):
        gc.collect()
        return {"ui": {"text": [str(sorted(ContractAsyncFailAt.waiting))]}, "result": (value,)}


class ContractAsyncExit(_Node):
    async def run(self, value=None):
        await asyncio.sleep(0.01)
        raise SystemExit(3)


class ContractCancel(_Node):
    def run(self, value=None):
        raise asyncio.CancelledError("given up")


class ContractNoList(_Node):
    OUTPUT_IS_LIST = (True,)

    def run(self, value=None):
        return (5,)


class ContractMuteError(Exception):
    def __str__(self):
        raise RuntimeError("no text either")


class ContractMute(_Node):
    def run(self, value=None):
        raise ContractMuteError


class ContractLength(_Node):
    """The length of `a`."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"a": (ANY, {}), "b": (ANY, {})}}

    async def run(self, a, b):
        await asyncio.sleep(0.01)
        return (len(a),)


class ContractPreview(_Node):
    """One preview of `kind` (JPEG or PNG), 40 by 20 in `mode`, at most `longest` long; "none" is no picture."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "kind": ("STRING", {"default": "PNG"}),
                "mode": ("STRING", {"default": "RGB"}),
                "longest": ("INT", {"default": 512, "min": 1}),
            }
        }

    def run(self, kind, mode, longest):
        picture = None if mode == "none" else Image.new(mode, (40, 20))
        comfy.utils.ProgressBar(4).update_absolute(3, 4, (kind, picture, longest))
        return (mode,)


# Expansions


class ContractExpand(_Node):
    """Expands as `kind` says."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"kind": ("STRING", {"default": "same"}), "value": (ANY, {})}}

    def run(self, kind, value):
        graph = GraphBuilder()
        if kind == "same":
            return {"result": (graph.node("ContractThrough", value=value).out(0),), "expand": graph.finalize()}
        if kind == "nested":
            inner = graph.node("ContractExpand", kind="same", value=value)
            return {"result": (inner.out(0),), "expand": graph.finalize()}
        if kind == "fail":
            inner = graph.node("TestFail", message="inside", value=value)
            return {"result": (inner.out(0),), "expand": graph.finalize()}
        if kind == "nested fail":
            inner = graph.node("ContractExpand", kind="fail", value=value)
            return {"result": (inner.out(0),), "expand": graph.finalize()}
        if kind == "block":
            blocked = graph.node("TestBlock", message="inside", value=value)
            after = graph.node("TestConcat", a=blocked.out(0), b="x")
            return {"result": (after.out(0),), "expand": graph.finalize()}
        if kind == "display":
            inner = graph.node("ContractThrough", value=value)
            inner.set_override_display_id("elsewhere")
            return {"result": (inner.out(0),), "expand": graph.finalize()}
        if kind == "own display":
            inner = graph.node("ContractThrough", value=value)
            inner.set_override_display_id(inner.id)
            return {"result": (inner.out(0),), "expand": graph.finalize()}
        if kind == "slow":
            inner = graph.node("TestSleep", seconds=60, steps=600, value=value)
            return {"result": (inner.out(0),), "expand": graph.finalize()}
        if kind == "cycle":
            first = graph.node("ContractVariadic", first="")
            second = graph.node("ContractVariadic", first=first.out(0))
            first.set_input("first", second.out(0))
            return {"result": (second.out(0),), "expand": graph.finalize()}
        if kind == "forever":
            again = graph.node("ContractExpand", kind="forever", value=value)
            return {"result": (again.out(0),), "expand": graph.finalize()}
        if kind == "duplicate":
            fixed = {"fixed": {"class_type": "PreviewAny", "inputs": {"source": "x"}}}
            return {"result": (value,), "expand": fixed}
        if kind == "later":
            return {"result": (graph.node("ContractFailLater", value=value).out(0),), "expand": graph.finalize()}
        if kind == "unknown":
            return {"result": (graph.node("NoSuchNode").out(0),), "expand": graph.finalize()}
        if kind == "no result":
            graph.node("PreviewAny", source="shown")
            return {"expand": graph.finalize()}
        if kind == "missing link":
            return {"result": (["nowhere", 0],), "expand": {}}
        raise ValueError(kind)


class ContractExpandLists(_Node):
    """Expands into a list of the lines of `text`, beside a second output."""

    RETURN_TYPES = ("STRING", "STRING")
    OUTPUT_IS_LIST = (True, False)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": ""})}}

    def run(self, text):
        graph = GraphBuilder()
        lines = graph.node("TestList", text=text)
        return {"result": (lines.out(0), "second"), "expand": graph.finalize()}


class ContractExpandChain(_Node):
    """Expands into a chain of `length` nodes."""

    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"length": ("INT", {"default": 1, "min": 1})}}

    def run(self, length):
        graph = GraphBuilder()
        last = graph.node("PrimitiveString", value="end")
        for _ in range(length - 1):
            last = graph.node("TestConcat", a=last.out(0), b="")
        return {"result": (last.out(0),), "expand": graph.finalize()}


class ContractExpandEach(_Node):
    """Expands for values above 0; the others are returned as they are."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {"default": 0})}}

    def run(self, value):
        if value == 0:
            return ("zero",)
        if value == 1:
            return {"result": ("one",)}
        graph = GraphBuilder()
        text = graph.node("TestConcat", a="more than ", b="one")
        return {"result": (text.out(0),), "expand": graph.finalize()}


class ContractLoop(_Node):
    """Counts down to 0 through expansions into itself, with a node in each."""

    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"count": ("INT", {"default": 1, "min": 0}), "text": ("STRING", {"default": ""})},
            "hidden": {"carried": ("STRING",)},
        }

    def run(self, count, text, carried=""):
        if count == 0:
            return (carried,)
        graph = GraphBuilder()
        more = graph.node("TestConcat", a=text, b=".")
        again = graph.node("ContractLoop", count=count - 1, text=more.out(0), carried=carried + text[:1])
        return {"result": (again.out(0),), "expand": graph.finalize()}


NODE_CLASS_MAPPINGS = {
    name: node
    for name, node in list(globals().items())
    if name.startswith("Contract") and name != "ContractMuteError"
}
