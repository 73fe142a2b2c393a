"""Our core nodes by the module in which ComfyUI defines them, where packs import their classes."""

from __future__ import annotations

from comfy_dist.nodes import core


def classes_of(module: str) -> dict[str, type]:
    """{class name: class} of `nodes`, or of a module of `comfy_extras`."""
    return {
        name: node
        for name, node in core.NODE_CLASS_MAPPINGS.items()
        if getattr(node, "RELATIVE_PYTHON_MODULE", "nodes") == module
    }
