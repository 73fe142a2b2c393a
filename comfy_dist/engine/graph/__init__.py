"""Engine graph: our own executor of ComfyUI's prompts, in a child process."""

from comfy_dist.engine.graph.engine import GraphEngine

__all__ = ["GraphEngine"]
