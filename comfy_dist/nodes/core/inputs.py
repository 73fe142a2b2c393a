"""How inputs are declared, and what nodes say of values they cannot use."""

from __future__ import annotations

from typing import Any, TypeAlias

from comfy_dist.errors import ComfyDistError
from comfy_dist.nodes.core.limits import MAX_RESOLUTION

#: {"required": {name: (type, options)}, "optional": ..., "hidden": ...}
Inputs: TypeAlias = dict[str, Any]
Input: TypeAlias = tuple[Any, dict[str, Any]]


class UnusableInput(ComfyDistError):
    """A node cannot work with what it was given; the text says what would do."""


def side(default: int = 512, least: int = 1, step: int = 1) -> Input:
    """An INT input for a length or position in pixels."""
    return ("INT", {"default": default, "min": least, "max": MAX_RESOLUTION, "step": step})


def number(default: float, least: float, most: float, step: float = 0.01) -> Input:
    """A FLOAT input."""
    return ("FLOAT", {"default": default, "min": least, "max": most, "step": step})


def whole(default: int, least: int, most: int, **more: Any) -> Input:
    """An INT input."""
    return ("INT", {"default": default, "min": least, "max": most, **more})


def combo(*options: str, **more: Any) -> Input:
    """A choice as ComfyUI's newer nodes declare it: the server does not hold it against its options."""
    return ("COMBO", {**more, "multiselect": False, "options": list(options)})


def colour() -> Input:
    """An INT input for 0xRRGGBB."""
    return whole(0, 0, 0xFFFFFF, step=1, display="color")
