"""`execution`: nothing of ComfyUI's executor but the names of what it raises."""

from comfy_dist.engine.graph.failures import DuplicateNodeError
from comfy_dist.engine.graph.links import ExecutionBlocker

__all__ = ["DuplicateNodeError", "ExecutionBlocker"]
