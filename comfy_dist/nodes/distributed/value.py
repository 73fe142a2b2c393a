"""A value of its own for every worker before a collector."""

from __future__ import annotations

from typing import Any

from comfy_dist.calls.classes import VALUE
from comfy_dist.calls.differing import value_of
from comfy_dist.nodes.cluster.inputs import ANY, Inputs


class Value:
    """The default for the worker that has the prompt, and for those that have no value."""

    CATEGORY = "Distributed"
    RETURN_TYPES = (ANY,)
    RETURN_NAMES = ("value",)
    FUNCTION = "distribute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        tooltip = 'JSON by a worker\'s name or id, or its number, counted from 1: {"1": "a", "garage": "b"}.'
        return {
            "required": {
                "default_value": ("STRING", {"default": ""}),
                "worker_values": ("STRING", {"default": "{}", "tooltip": tooltip}),
            },
            # In clones of a share (calls/differing.py) the names that its value may go by, as JSON.
            "hidden": {"names": ("STRING", {})},
        }

    def distribute(self, default_value: Any, worker_values: str = "{}", names: str = "[]") -> tuple[Any]:
        """Raises UnusableValues."""
        return (value_of(default_value, worker_values, names),)


NODE_CLASS_MAPPINGS = {VALUE: Value}
NODE_DISPLAY_NAME_MAPPINGS = {VALUE: "Distributed Value"}
