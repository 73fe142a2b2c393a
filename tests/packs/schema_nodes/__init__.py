"""Nodes of the newer schema, one for each thing it can do. Loads in a stock ComfyUI too, which was recorded."""

import asyncio

import torch
from comfy_api.latest import ComfyExtension, io, ui
from comfy_execution.graph import ExecutionBlocker
from comfy_execution.graph_utils import GraphBuilder

from . import declarations

CALLS = {"loaded": 0}


class SchemaApi(io.ComfyNode):
    """An API node that shows something: all hidden inputs come by themselves."""

    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="SchemaApi", category="testing/schema", is_api_node=True, is_output_node=True)

    @classmethod
    def execute(cls):
        hidden = cls.hidden
        return io.NodeOutput(
            ui=ui.PreviewText(
                f"{sorted(hidden.prompt)} {hidden.extra_pnginfo} {hidden.unique_id} {hidden.api_key_comfy_org} "
                f"{hidden.nothing_of_the_kind}"
            )
        )


class SchemaHidden(io.ComfyNode):
    """What it is given hidden, beside an input of the same name."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SchemaHidden",
            category="testing/schema",
            inputs=[io.String.Input("prompt", default="mine")],
            outputs=[io.String.Output()],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.dynprompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, prompt):
        hidden = cls.hidden
        own = hidden.dynprompt.get_node(hidden.unique_id)["class_type"]
        return io.NodeOutput(f"{prompt} {sorted(hidden.prompt)} {own} {hidden.extra_pnginfo} {hidden.unique_id}")


class SchemaShow(io.ComfyNode):
    """Shows what it gets."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SchemaShow",
            category="testing/schema",
            inputs=[io.AnyType.Input("value")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, value):
        return io.NodeOutput(ui=ui.PreviewText(str(value)))


class SchemaPictures(io.ComfyNode):
    """Previews and saves a batch."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SchemaPictures",
            category="testing/schema",
            inputs=[
                io.Image.Input("images"),
                io.Combo.Input("how", options=["preview", "mask", "save", "png", "webp"]),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, images, how):
        if how == "preview":
            return io.NodeOutput(ui=ui.PreviewImage(images, cls=cls))
        if how == "mask":
            return io.NodeOutput(ui=ui.PreviewMask(images[..., 0], cls=cls))
        if how == "save":
            return io.NodeOutput(ui=ui.ImageSaveHelper.get_save_images_ui(images, "schema/saved", cls))
        if how == "png":
            return io.NodeOutput(
                ui=ui.ImageSaveHelper.get_save_animated_png_ui(images, "schema/moving", cls, 8.0, 4)
            )
        return io.NodeOutput(
            ui=ui.ImageSaveHelper.get_save_animated_webp_ui(images, "schema/moving", cls, 8.0, True, 80, 4)
        )


class SchemaTensor(io.ComfyNode):
    """A batch of pictures without any randomness."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SchemaTensor",
            category="testing/schema",
            inputs=[io.Int.Input("count", default=1, min=1, max=8)],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, count):
        return io.NodeOutput((torch.arange(count * 16 * 16 * 3) % 251).reshape(count, 16, 16, 3).float() / 255)


class SchemaValidated(io.ComfyNode):
    """Takes even numbers, and 7 where it comes by a link."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SchemaValidated",
            category="testing/schema",
            inputs=[io.Int.Input("number", default=2, min=0, max=10), io.Int.Input("limited", default=2, max=10)],
            outputs=[io.Int.Output("result")],
        )

    @classmethod
    def validate_inputs(cls, number):
        return True if number is None or number % 2 == 0 else f"{number} is odd"

    @classmethod
    def execute(cls, number, limited):
        return io.NodeOutput(number + limited)


class SchemaAsync(io.ComfyNode):
    """Waits for the event loop, then passes its text on in upper case."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SchemaAsync",
            category="testing/schema",
            inputs=[io.String.Input("text", default="")],
            outputs=[io.String.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, text):
        await asyncio.sleep(0.01)
        return io.NodeOutput(f"{text.upper()} by {cls.hidden.unique_id}")


class SchemaSplit(io.ComfyNode):
    """A text's words, one after the other."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SchemaSplit",
            category="testing/schema",
            inputs=[io.String.Input("text", default="a b c")],
            outputs=[io.String.Output("word", is_output_list=True), io.Int.Output("count")],
        )

    @classmethod
    def execute(cls, text):
        return io.NodeOutput(text.split(), len(text.split()))


class SchemaJoin(io.ComfyNode):
    """Words put together; takes the whole list at once."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SchemaJoin",
            category="testing/schema",
            inputs=[io.String.Input("words", force_input=True), io.String.Input("between", default="-")],
            outputs=[io.String.Output()],
            hidden=[io.Hidden.unique_id],
            is_input_list=True,
        )

    @classmethod
    def execute(cls, words, between):
        return io.NodeOutput(f"{between[0].join(words)} by {cls.hidden.unique_id}")


class SchemaSwitch(io.ComfyNode):
    """One of two inputs; the other is never computed."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SchemaSwitch",
            category="testing/schema",
            inputs=[
                io.Boolean.Input("first", default=True),
                io.AnyType.Input("a", lazy=True),
                io.AnyType.Input("b", lazy=True),
            ],
            outputs=[io.AnyType.Output()],
        )

    @classmethod
    def check_lazy_status(cls, first, a=None, b=None):
        return [name for name, value in (("a", a),) if first and value is None] or (
            ["b"] if not first and b is None else []
        )

    @classmethod
    def execute(cls, first, a=None, b=None):
        return io.NodeOutput(a if first else b)


class SchemaExpand(io.ComfyNode):
    """A text twice, by two nodes in its place."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SchemaExpand",
            category="testing/schema",
            inputs=[io.String.Input("text", default="a b")],
            outputs=[io.String.Output()],
            enable_expand=True,
        )

    @classmethod
    def execute(cls, text):
        graph = GraphBuilder()
        split = graph.node("SchemaSplit", text=text)
        join = graph.node("SchemaJoin", words=split.out(0), between="+")
        return io.NodeOutput(join.out(0), expand=graph.finalize())


class SchemaExpandRefused(SchemaExpand):
    """Expands without having said so."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SchemaExpandRefused",
            category="testing/schema",
            inputs=[io.String.Input("text", default="a b")],
            outputs=[io.String.Output()],
        )


class SchemaFingerprint(io.ComfyNode):
    """Runs again only where its fingerprint says so; gives the number of its runs."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SchemaFingerprint",
            category="testing/schema",
            inputs=[io.String.Input("state", default="same"), io.Int.Input("ignored", default=0)],
            outputs=[io.Int.Output()],
        )

    @classmethod
    def fingerprint_inputs(cls, state, **others):
        return float("nan") if state == "always" else state

    @classmethod
    def execute(cls, state, ignored):
        CALLS[state] = CALLS.get(state, 0) + 1
        return io.NodeOutput(CALLS[state])


class SchemaReturns(io.ComfyNode):
    """Returns in every way a node may, and in some that it may not."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SchemaReturns",
            category="testing/schema",
            inputs=[io.String.Input("how", default="output")],
            outputs=[io.String.Output()],
        )

    @classmethod
    def execute(cls, how):
        if how == "raise":
            raise ValueError("as it was told")
        return {
            "output": io.NodeOutput("an output"),
            "tuple": ("a tuple",),
            "blocker": ExecutionBlocker("a blocker"),
            "block_execution": io.NodeOutput("never seen", block_execution="blocked"),
            "block_silently": ExecutionBlocker(None),
            "text": "only a text",
        }[how]


class SchemaLocked(io.ComfyNode):
    """Tries to keep something on its class."""

    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="SchemaLocked", category="testing/schema", outputs=[io.Int.Output()])

    @classmethod
    def execute(cls):
        cls.kept = 1
        return io.NodeOutput(1)


class SchemaNodes(ComfyExtension):
    async def on_load(self):
        CALLS["loaded"] += 1

    async def get_node_list(self):
        await asyncio.sleep(0)
        classes = vars(declarations) | globals()
        return [
            each
            for name, each in sorted(classes.items())
            if isinstance(each, type) and issubclass(each, io.ComfyNode) and each is not io.ComfyNode
        ]


async def comfy_entrypoint():
    return SchemaNodes()
