"""How the Cluster nodes declare inputs."""

from __future__ import annotations

from typing import Any, TypeAlias

#: {"required": {name: (type, options)}, "optional": ..., "hidden": ...}
Inputs: TypeAlias = dict[str, Any]


class _AnyType(str):
    """Unequal to no type, as ComfyUI wants it of the type of a link that may carry anything."""

    __slots__ = ()

    def __ne__(self, other: object) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other)

    __hash__ = str.__hash__


ANY = _AnyType("*")


def whole(default: int, least: int, most: int) -> tuple[str, dict[str, Any]]:
    """An INT input."""
    return ("INT", {"default": default, "min": least, "max": most})
