"""The Distributed nodes: a workflow on every selected worker, each with its own seed."""

from __future__ import annotations

from comfy_dist.nodes.distributed import tiles, upscale

NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
for _module in (upscale,):
    NODE_CLASS_MAPPINGS.update(_module.NODE_CLASS_MAPPINGS)
    NODE_DISPLAY_NAME_MAPPINGS.update(_module.NODE_DISPLAY_NAME_MAPPINGS)
# What plans put into prompts; no menu shows them.
NODE_CLASS_MAPPINGS.update(tiles.HIDDEN)
