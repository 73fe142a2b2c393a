"""The Cluster nodes: one graph over many workers. On a stock ComfyUI and without a cluster they work in place."""

from __future__ import annotations

from comfy_dist.nodes.cluster import (
    batches,
    broadcast,
    fan_in,
    fan_out,
    freeing,
    gather,
    hidden,
    info,
    lists,
    subgraphs,
    work_items,
    workflows,
)

NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
for _module in (info, freeing, subgraphs, broadcast, fan_out, fan_in, gather, work_items, batches, workflows):
    NODE_CLASS_MAPPINGS.update(_module.NODE_CLASS_MAPPINGS)
    NODE_DISPLAY_NAME_MAPPINGS.update(_module.NODE_DISPLAY_NAME_MAPPINGS)
# What plans and expansions put into prompts; no menu shows them.
NODE_CLASS_MAPPINGS.update(lists.HIDDEN)
NODE_CLASS_MAPPINGS.update(hidden.HIDDEN)
