"""How the Cluster nodes declare inputs."""

from __future__ import annotations

from typing import Any, TypeAlias

from comfy_dist.errors import ComfyDistError

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


class UnusableNumber(ComfyDistError):
    """A link has brought what an input has no use for: its limits hold for what people enter."""


def at_least(least: int, **given: Any) -> int:
    """The one number that is given, by the name of its input. Raises UnusableNumber."""
    ((name, number),) = given.items()
    if not isinstance(number, int) or number < least:
        raise UnusableNumber(f"{name} is a whole number, {least} or more; its link has brought {number!r:.50}.")
    return number


def whole(default: int, least: int, most: int) -> tuple[str, dict[str, Any]]:
    """An INT input."""
    return ("INT", {"default": default, "min": least, "max": most})
