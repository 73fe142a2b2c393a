"""The registry of this process: packs see it as `nodes.NODE_CLASS_MAPPINGS`."""

from comfy_dist.engine.graph.registry import Registry

registry = Registry()
