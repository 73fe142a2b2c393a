"""Packs that are broken, each in its own way, as {file: content}; and what is said of them."""

from __future__ import annotations

NODE = """
class {name}:
    @classmethod
    def INPUT_TYPES(cls):
        return {{"required": {{}}}}
    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    def run(self):
        return {{"ui": {{"text": ["{name}"]}}}}
NODE_CLASS_MAPPINGS = {{"{name}": {name}}}
"""

#: The start of packs of the newer schema.
EXTENSION = """
from comfy_api.latest import ComfyExtension, io
class {name}(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="{name}", is_output_node=True)
    @classmethod
    def execute(cls):
        return io.NodeOutput(ui={{"text": ["{name}"]}})
class Extension(ComfyExtension):
    async def get_node_list(self):
        return [{name}]
"""
_STARTED = EXTENSION.format(name="Unused")

#: {pack: (content of its module, a part of the sentence by which it is skipped)}
SKIPPED = {
    "syntax": ("def broken(:\n", "SyntaxError: invalid syntax (syntax.py, line 1)."),
    "raises": ("\nraise RuntimeError('no luck')\n", "RuntimeError: no luck (raises.py, line 2)."),
    "exits": ("import sys\nsys.exit(3)\n", "SystemExit: 3 (exits.py, line 2)."),
    "cancels": (
        "from asyncio import CancelledError\nraise CancelledError\n",
        "CancelledError (cancels.py, line 2).",
    ),
    "mute": (
        "class Mute(Exception):\n    def __str__(self):\n        raise self\nraise Mute\n",
        "Mute: <Mute without text: Mute> (mute.py, line 4).",
    ),
    "recursion": ("def again():\n    again()\nagain()\n", "RecursionError: maximum recursion depth exceeded"),
    "nothing": ("x = 1\n", "It has neither NODE_CLASS_MAPPINGS nor comfy_entrypoint."),
    "not_a_dict": ("NODE_CLASS_MAPPINGS = ['A']\n", "Its NODE_CLASS_MAPPINGS is of type list; it must be a dict."),
    "no_package": (
        "import no_such_package\n",
        "ModuleNotFoundError: No module named 'no_such_package' (no_package.py, line 1).",
    ),
    "needs_module": (
        "import comfy.sd\ncomfy.sd.load_checkpoint('a')\n",
        "engine graph does not offer ComfyUI's comfy.sd.load_checkpoint; a worker started with --engine comfyui "
        "does (needs_module.py, line 2).",
    ),
    "needs_package": (
        "from app.user_manager import UserManager\nUserManager()\n",
        "engine graph does not offer ComfyUI's app.user_manager.UserManager; a worker started with",
    ),
    "needs_list": (
        "import comfy.sd1_clip\nNAMES = ['mine'] + comfy.sd1_clip.NAMES\n",
        "engine graph does not offer ComfyUI's comfy.sd1_clip.NAMES; a worker started with --engine comfyui does",
    ),
    "needs_item": (
        "import comfy.ldm.models\ncomfy.ldm.models.TABLE['a']\n",
        "engine graph does not offer ComfyUI's comfy.ldm.models.TABLE; a worker started with --engine comfyui",
    ),
    "needs_name": (
        "from folder_paths import no_such_thing\nnames = [*no_such_thing]\n",
        "engine graph does not offer ComfyUI's folder_paths.no_such_thing; a worker started with --engine comfyui "
        "does (needs_name.py, line 2).",
    ),
    "needs_attribute": (
        "import comfy.model_management\ncomfy.model_management.load_models_gpu([])\n",
        "engine graph does not offer ComfyUI's comfy.model_management.load_models_gpu; a worker "
        "started with --engine comfyui does (needs_attribute.py, line 2).",
    ),
    "entrypoint_raises": (
        "async def comfy_entrypoint():\n    raise ValueError('not today')\n",
        "ValueError: not today (entrypoint_raises.py, line 2).",
    ),
    "entrypoint_is_no_function": (
        "comfy_entrypoint = 5\n",
        "Its comfy_entrypoint is of type int; it must be a function.",
    ),
    "entrypoint_takes_more": (
        "def comfy_entrypoint(x):\n    return x\n",
        "TypeError: comfy_entrypoint() missing 1",
    ),
    "entrypoint_returns_nonsense": (
        "def comfy_entrypoint():\n    return 'an extension'\n",
        "Its comfy_entrypoint returned 'an extension'; it must return a ComfyExtension.",
    ),
    "no_node_list": (
        "from comfy_api.latest import ComfyExtension\nclass E(ComfyExtension):\n    pass\n"
        "def comfy_entrypoint():\n    return E()\n",
        "Can't instantiate abstract class E",
    ),
    "node_list_raises": (
        f"{_STARTED}class E(Extension):\n    async def get_node_list(self):\n        raise KeyError('list')\n"
        "def comfy_entrypoint():\n    return E()\n",
        "KeyError: 'list' (node_list_raises.py, line",
    ),
    "node_list_is_none": (
        f"{_STARTED}class E(Extension):\n    async def get_node_list(self):\n        return 5\n"
        "def comfy_entrypoint():\n    return E()\n",
        "Its get_node_list returned 5; it must return a list of node classes.",
    ),
    "node_list_of_others": (
        f"{_STARTED}class E(Extension):\n    async def get_node_list(self):\n        return [int]\n"
        "def comfy_entrypoint():\n    return E()\n",
        "Its get_node_list lists <class 'int'>; its nodes must derive from io.ComfyNode.",
    ),
    "on_load_raises": (
        f"{_STARTED}class E(Extension):\n    async def on_load(self):\n        raise OSError('no weights')\n"
        "def comfy_entrypoint():\n    return E()\n",
        "OSError: no weights (on_load_raises.py, line",
    ),
}

_ATTRIBUTES = """
class Base:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}
    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    def run(self):
        return {"ui": {"text": ["good"]}}
class Good(Base): pass
class RaisingInputs(Base):
    @classmethod
    def INPUT_TYPES(cls):
        raise KeyError("models")
class ExitingInputs(Base):
    @classmethod
    def INPUT_TYPES(cls):
        raise SystemExit("models")
class NoInputs(Base):
    INPUT_TYPES = None
class ListedInputs(Base):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": ["image"]}
class EmptyInput(Base):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ()}}
class NoFunction:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}
class WrongFunction(Base):
    FUNCTION = "walk"
class StrangeValidation(Base):
    VALIDATE_INPUTS = 5
NODE_CLASS_MAPPINGS = {name: each for name, each in globals().items() if isinstance(each, type) and name != "Base"}
NODE_CLASS_MAPPINGS |= {"EmptyImage": Good, "NoClass": "NoClass", 7: Good}
NODE_DISPLAY_NAME_MAPPINGS = {"Good": "A good one"}
"""

_SCHEMAS = (
    EXTENSION.format(name="GoodSchema")
    + """
class SchemaRaises(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        raise LookupError("no schema")
    @classmethod
    def execute(cls):
        return None
class SchemaIsNone(SchemaRaises):
    @classmethod
    def define_schema(cls):
        return None
class NoId(SchemaRaises):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id=None)
class NoIdAtAll(SchemaRaises):
    @classmethod
    def define_schema(cls):
        return io.Schema()
class TwiceTheSame(SchemaRaises):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="TwiceTheSame", inputs=[io.Int.Input("a"), io.Float.Input("a")])
class TwiceOut(SchemaRaises):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="TwiceOut", outputs=[io.Int.Output("a"), io.Int.Output("a")])
class NoInput(SchemaRaises):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="NoInput", inputs=[io.Int])
class NoExecute(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="NoExecute")
class NoSchema(io.ComfyNode):
    @classmethod
    def execute(cls):
        return None
class GoodAgain(GoodSchema):
    pass
class E(ComfyExtension):
    async def get_node_list(self):
        return [each for each in globals().values()
                if isinstance(each, type) and issubclass(each, io.ComfyNode) and each is not io.ComfyNode]
def comfy_entrypoint():
    return E()
"""
)

#: {pack: (content, {class: a part of the reason why it is left out}, a class that is there)}
PARTLY = {
    "attributes": (
        _ATTRIBUTES,
        {
            "RaisingInputs": "KeyError: 'models'",
            "ExitingInputs": "SystemExit: models",
            "NoInputs": "TypeError: 'NoneType' object is not callable",
            "ListedInputs": "AttributeError: 'list' object has no attribute 'items'",
            "EmptyInput": "IndexError: tuple index out of range",
            "NoFunction": "AttributeError: type object 'NoFunction' has no attribute 'FUNCTION'",
            "WrongFunction": "AttributeError: type object 'WrongFunction' has no attribute 'walk'",
            "StrangeValidation": "TypeError: 5 is not a callable object",
            "EmptyImage": "nodes already has a node of that name",
            "NoClass": "TypeError: it is 'NoClass', not a class",
            "7": "its name is not a text",
        },
        "Good",
    ),
    "schemas": (
        _SCHEMAS,
        {
            "SchemaRaises": "LookupError: no schema",
            "SchemaIsNone": "define_schema of SchemaIsNone returned None; it must return an io.Schema.",
            "NoId": "Its schema has no node_id: None is no name.",
            "NoIdAtAll": "TypeError: Schema.__init__() missing 1 required positional argument: 'node_id'",
            "TwiceTheSame": "The inputs of TwiceTheSame share an id: a.",
            "TwiceOut": "The outputs of TwiceOut share an id: a.",
            "NoInput": "The inputs of NoInput hold <class",
            "NoExecute": "NoExecute has no execute.",
            "NoSchema": "NoSchema has no define_schema.",
        },
        "GoodSchema",
    ),
}

#: Some of its nodes need what engine graph does not offer.
MIXED = """
import comfy.sd
import comfy.samplers
import nodes
from comfy.ldm.modules.attention import optimized_attention
from nodes import LoraLoader, CLIPTextEncode
class Base:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}
    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    def run(self):
        return {"ui": {"text": [type(self).__name__]}}
if hasattr(nodes, "Other") or getattr(comfy.samplers, "Other", None):
    raise RuntimeError("There is no Other.")
class DoesWithout(Base):
    def vae(self, vae: comfy.sd.VAE | None = None):
        return vae
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}, "optional": {"name": (comfy.samplers.KSampler.SAMPLERS,)}}
class UsesModule(Base):
    def run(self):
        return comfy.sd.load_checkpoint()
class UsesName(Base):
    def run(self):
        return [LoraLoader() for each in range(3)]
class UsesNested(Base):
    @staticmethod
    def attend(x):
        return optimized_attention(x)
class OffersNames(Base):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": (comfy.sd.CLIPType.names,)}}
class Derives(LoraLoader):
    RETURN_TYPES = (*LoraLoader.RETURN_TYPES, "STRING")
class DerivesNested(comfy.sd.inner.VAE, Base):
    pass
class Guider(comfy.samplers.CFGGuider):
    pass
class UsesAttribute(Base):
    def run(self):
        return comfy.samplers.CFGGuider()
NODE_CLASS_MAPPINGS = {each.__name__: each for each in (
    DoesWithout, UsesModule, UsesName, UsesNested, OffersNames, Derives, DerivesNested, UsesAttribute)}
"""
MIXED_LEFT_OUT = (
    "Derives",
    "DerivesNested",
    "OffersNames",
    "UsesAttribute",
    "UsesModule",
    "UsesName",
    "UsesNested",
)

#: Loads with what there is, by itself.
CAREFUL = (
    NODE.format(name="Careful").replace('["Careful"]', "[FOUND]")
    + """
try:
    import comfy.sd
    FOUND = "comfy.sd"
except ModuleNotFoundError as error:
    FOUND = f"{error.name}: {error}"
"""
)
