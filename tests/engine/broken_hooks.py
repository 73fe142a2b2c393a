"""A pack whose classes are each broken in one hook, and how their prompts end."""

from __future__ import annotations

#: Each class is broken in one hook: its name says which, and what it raises.
HOOKS = """
from asyncio import CancelledError
from comfy_api.latest import ComfyExtension, io, ui

def failing(raised):
    def fail(*args, **inputs):
        raise raised("hook")
    return fail

class Older:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {"default": 0, "lazy": True})}}
    RETURN_TYPES = ("INT",)
    FUNCTION = "run"
    OUTPUT_NODE = True
    def run(self, value):
        return {"ui": {"text": [str(value)]}, "result": (value,)}

class Newer(io.ComfyNode):
    name = "Newer"
    @classmethod
    def define_schema(cls):
        value = io.Int.Input("value", default=0, lazy=True)
        return io.Schema(node_id=cls.name, inputs=[value], outputs=[io.Int.Output()], is_output_node=True)
    @classmethod
    def execute(cls, value):
        return io.NodeOutput(value, ui=ui.PreviewText(str(value)))

class FailingUi(ui.PreviewText):
    as_dict = failing(LookupError)

NODE_CLASS_MAPPINGS = {}
class Mute(Exception):
    def __str__(self):
        raise self

for raised in (ValueError, SystemExit, CancelledError, Mute):
    hooks = {
        "VALIDATE_INPUTS": (Older, classmethod(failing(raised))),
        "IS_CHANGED": (Older, classmethod(failing(raised))),
        "check_lazy_status": (Older, failing(raised)),
        "run": (Older, failing(raised)),
        "__init__": (Older, failing(raised)),
        "validate_inputs": (Newer, classmethod(failing(raised))),
        "fingerprint_inputs": (Newer, classmethod(failing(raised))),
        "check_lazy_status_": (Newer, classmethod(failing(raised))),
        "execute": (Newer, classmethod(failing(raised))),
    }
    for hook, (base, function) in hooks.items():
        name = f"{hook.strip('_')}_{base.__name__}_{raised.__name__}"
        attributes = {hook if hook == "__init__" else hook.rstrip("_"): function, "name": name}
        NODE_CLASS_MAPPINGS[name] = type(name, (base,), attributes)
NODE_CLASS_MAPPINGS["as_dict"] = type(
    "as_dict",
    (Newer,),
    {"name": "as_dict", "execute": classmethod(lambda cls, value: io.NodeOutput(value, ui=FailingUi("x")))},
)
"""
#: {class: whether the prompt is refused, fails, or runs nevertheless}
HOOKS_END = {
    f"{hook}_{contract}_{raised}": end
    for raised in ("ValueError", "SystemExit", "CancelledError", "Mute")
    for hook, contract, end in (
        ("VALIDATE_INPUTS", "Older", "refused"),
        ("IS_CHANGED", "Older", "runs"),
        ("check_lazy_status", "Older", "fails"),
        ("run", "Older", "fails"),
        ("init", "Older", "fails"),
        ("validate_inputs", "Newer", "refused"),
        ("fingerprint_inputs", "Newer", "runs"),
        ("check_lazy_status", "Newer", "fails"),
        ("execute", "Newer", "fails"),
    )
} | {"as_dict": "fails"}
