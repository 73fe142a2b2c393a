"""ComfyUI's own nodes: its names, inputs, outputs and results, so that its workflows run as they are."""

from __future__ import annotations

from comfy_dist.nodes.core import images, load, masks, save, values

NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
for _module in (load, save, images, masks, values):
    NODE_CLASS_MAPPINGS.update(_module.NODE_CLASS_MAPPINGS)
    NODE_DISPLAY_NAME_MAPPINGS.update(_module.NODE_DISPLAY_NAME_MAPPINGS)
