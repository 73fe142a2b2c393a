"""A text that goes into any input, as the name of a model that only the other workers have."""

from __future__ import annotations

import json
from typing import Any

from comfy_dist.nodes.cluster.inputs import ANY, Inputs


class ModelName:
    CATEGORY = "Distributed"
    RETURN_TYPES = (ANY,)
    RETURN_NAMES = ("output",)
    FUNCTION = "show"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"text": ("STRING", {"default": ""})}}

    def show(self, text: Any) -> dict[str, Any]:
        """The text, and what is no text as JSON; shown below the node."""
        name = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False, default=str)
        return {"ui": {"text": [name]}, "result": (name,)}


NODE_CLASS_MAPPINGS = {"DistributedModelName": ModelName}
NODE_DISPLAY_NAME_MAPPINGS = {"DistributedModelName": "Distributed Model Name"}
