"""Nodes that declare every widget and every type there is."""

import enum

from comfy_api.latest import io


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


#: Types without a widget: all that io has.
PLAIN_TYPES = [
    "Image",
    "WanCameraEmbedding",
    "Mask",
    "Latent",
    "Conditioning",
    "Sampler",
    "Sigmas",
    "Noise",
    "Guider",
    "Clip",
    "ControlNet",
    "Vae",
    "Model",
    "ClipVision",
    "ClipVisionOutput",
    "AudioEncoder",
    "AudioEncoderOutput",
    "StyleModel",
    "Gligen",
    "UpscaleModel",
    "Audio",
    "Video",
    "SVG",
    "LoraModel",
    "LossMap",
    "Voxel",
    "Mesh",
    "Hooks",
    "HookKeyframes",
    "TimestepsRange",
    "LatentOperation",
    "FlowControl",
    "Accumulation",
    "Load3DCamera",
    "Load3D",
    "Load3DAnimation",
    "Photomaker",
    "Point",
    "FaceAnalysis",
    "BBOX",
    "SEGS",
    "AnyType",
]


class SchemaWidgets(io.ComfyNode):
    """Every widget with every option."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SchemaWidgets",
            display_name="Widgets of the newer schema",
            category="testing/schema",
            description="Has one of each.",
            inputs=[
                io.Boolean.Input("boolean", default=True, label_on="yes", label_off="no"),
                io.Int.Input(
                    "integer",
                    display_name="Integer",
                    default=3,
                    min=-5,
                    max=50,
                    step=2,
                    control_after_generate=True,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="A number",
                ),
                io.Float.Input(
                    "float",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=0.001,
                    display_mode=io.NumberDisplay.number,
                ),
                io.String.Input(
                    "string", default="text", multiline=True, placeholder="here", dynamic_prompts=False
                ),
                io.String.Input("socket", force_input=True),
                io.String.Input("no_socket", socketless=True, optional=True),
                io.Combo.Input("combo", options=["first", "second"], default="second"),
                io.Combo.Input("numbers", options=[1, 2, 4], default=4),
                io.Combo.Input("colour", options=Colour, default=Colour.BLUE),
                io.Combo.Input(
                    "file",
                    options=["a.png"],
                    upload=io.UploadType.image,
                    image_folder=io.FolderType.input,
                    optional=True,
                ),
                io.Combo.Input(
                    "remote",
                    options=[],
                    optional=True,
                    remote=io.RemoteOptions("/internal/files/output", True, timeout=5),
                ),
                io.MultiCombo.Input(
                    "several", options=["a", "b", "c"], default=["a"], placeholder="some", chip=True
                ),
                io.Webcam.Input("webcam", optional=True),
                io.Custom("MY_TYPE").Input(
                    "custom", optional=True, lazy=True, extra_dict={"own": 1, "none": None}
                ),
                io.MultiType.Input("either", types=[io.Int, io.Float], optional=True),
                io.MultiType.Input(
                    io.String.Input("or_text", default="x"), types=[io.Image, io.Mask], optional=True
                ),
            ],
            outputs=[io.String.Output()],
        )

    @classmethod
    def execute(cls, **values):
        return io.NodeOutput(repr(sorted((name, value) for name, value in values.items())))


class SchemaTypes(io.ComfyNode):
    """Every type, as an input and as an output."""

    @classmethod
    def define_schema(cls):
        types = [getattr(io, name) for name in PLAIN_TYPES]
        return io.Schema(
            node_id="SchemaTypes",
            category="testing/schema",
            inputs=[each.Input(f"in_{index}", optional=bool(index % 2)) for index, each in enumerate(types)],
            outputs=[
                *(each.Output(f"out_{index}", is_output_list=index == 1) for index, each in enumerate(types)),
                io.Custom("MY_TYPE").Output(display_name="mine", tooltip="Of no other kind"),
                io.Combo.Output(options=["a", "b"], display_name="choice"),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.auth_token_comfy_org],
            is_deprecated=True,
            is_experimental=True,
            not_idempotent=True,
        )

    @classmethod
    def execute(cls, **values):
        return io.NodeOutput(*range(len(PLAIN_TYPES) + 2))
