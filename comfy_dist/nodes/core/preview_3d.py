"""Showing models in 3D, which packs make, on the page."""

from __future__ import annotations

from typing import Any

from comfy_dist.nodes.core.inputs import Inputs


class Preview3D:
    """Shows a file of the output folder, from where the camera stands."""

    CATEGORY = "3d"
    EXPERIMENTAL = True
    RETURN_TYPES = ()
    FUNCTION = "process"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"model_file": ("STRING", {"default": "", "multiline": False})},
            "optional": {"camera_info": ("LOAD3D_CAMERA", {})},
        }

    def process(self, model_file: str, camera_info: Any = None) -> dict[str, Any]:
        return {"ui": {"result": [model_file, camera_info]}}


class Preview3DAnimation(Preview3D):
    """The same for one that moves."""


NODE_CLASS_MAPPINGS = {"Preview3D": Preview3D, "Preview3DAnimation": Preview3DAnimation}
NODE_DISPLAY_NAME_MAPPINGS = {"Preview3D": "Preview 3D", "Preview3DAnimation": "Preview 3D - Animation"}
