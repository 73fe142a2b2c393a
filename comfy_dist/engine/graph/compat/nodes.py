"""`nodes`: the node classes of this process."""

from __future__ import annotations

from comfy_dist.engine.graph.interrupt import interrupt
from comfy_dist.engine.graph.process_registry import registry
from comfy_dist.nodes.core.limits import MAX_RESOLUTION

__all__ = [
    "MAX_RESOLUTION",
    "NODE_CLASS_MAPPINGS",
    "NODE_DISPLAY_NAME_MAPPINGS",
    "before_node_execution",
    "interrupt_processing",
]

NODE_CLASS_MAPPINGS = registry.classes
NODE_DISPLAY_NAME_MAPPINGS = registry.display_names


def before_node_execution() -> None:
    interrupt.check()


def interrupt_processing(value: bool = True) -> None:
    interrupt.requested = value
