"""The Legion nodes: saved workflows executed by processes of their own, with data handed to them and back."""

from __future__ import annotations

from comfy_dist.nodes.legion import bridging, configuring, hidden, joining, masters

NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
for _module in (configuring, masters, bridging, joining):
    NODE_CLASS_MAPPINGS.update(_module.NODE_CLASS_MAPPINGS)
    NODE_DISPLAY_NAME_MAPPINGS.update(_module.NODE_DISPLAY_NAME_MAPPINGS)
NODE_CLASS_MAPPINGS.update(hidden.HIDDEN)
