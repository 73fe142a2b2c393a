"""`nodes`: the node classes of this process; those that ComfyUI defines there, as attributes too."""

from __future__ import annotations

from comfy_dist.engine.graph.compat._classes import classes_of
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
#: {pack: its web folder}; what packs add here is not served: WEB_DIRECTORY is.
EXTENSION_WEB_DIRS: dict[str, str] = {}

globals().update(classes_of("nodes"))


def before_node_execution() -> None:
    interrupt.check()


def interrupt_processing(value: bool = True) -> None:
    interrupt.requested = value
