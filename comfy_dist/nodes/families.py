"""The distributed nodes: every family of them, as an engine registers them and a stock ComfyUI loads them."""

from __future__ import annotations

from comfy_dist.nodes import cluster, distributed, legion, remote

NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
for _family in (cluster, remote, legion, distributed):
    NODE_CLASS_MAPPINGS.update(_family.NODE_CLASS_MAPPINGS)
    NODE_DISPLAY_NAME_MAPPINGS.update(_family.NODE_DISPLAY_NAME_MAPPINGS)
