"""The Distributed nodes: a workflow on every selected worker, each with its own seed."""

from __future__ import annotations

from comfy_dist.nodes.distributed import (
    collector,
    dividers,
    empty_image,
    model_name,
    seed,
    tiles,
    upscale,
    value,
)

NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
for _module in (seed, value, collector, model_name, dividers, empty_image, upscale):
    NODE_CLASS_MAPPINGS.update(_module.NODE_CLASS_MAPPINGS)
    NODE_DISPLAY_NAME_MAPPINGS.update(_module.NODE_DISPLAY_NAME_MAPPINGS)
# What plans put into prompts; no menu shows them.
NODE_CLASS_MAPPINGS.update(tiles.HIDDEN)
NODE_CLASS_MAPPINGS.update(collector.HIDDEN)
