"""A prompt once more with other seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_dist.input_judging import inputs_of
from comfy_dist.workflows.ui_format import Prompt

SEEDS = ("seed", "noise_seed")
#: ComfyUI's seeds are unsigned 64 bit numbers.
_LARGEST = 2**64 - 1


def reseeded(prompt: Mapping[str, Any], offset: int, nodes: Mapping[str, Any]) -> Prompt:
    """A copy whose seeds, where they are no links, are `offset` further on; an input's largest is followed by its
    smallest.

    `nodes` are definitions as in /object_info; seeds of other classes have 64 bits. The prompt may be any object,
    as it was received: what is no node, and no whole number, stays.
    """
    return {id_: _reseeded(node, offset, nodes) for id_, node in prompt.items()}


def _reseeded(node: Any, offset: int, nodes: Mapping[str, Any]) -> Any:
    if not isinstance(node, Mapping) or not isinstance(given := node.get("inputs"), Mapping):
        return node
    moved = {
        name: _moved(value, offset, *_limits(node.get("class_type"), name, nodes))
        for name, value in given.items()
        if name in SEEDS and isinstance(value, int) and not isinstance(value, bool)
    }
    # Of its own in any case: validation casts inputs in place.
    return {**node, "inputs": {**given, **moved}}


def _moved(value: int, offset: int, smallest: int, largest: int) -> int:
    """What lies outside of the limits stays, and is refused as it was given."""
    if not smallest <= value <= largest:
        return value
    return smallest + (value - smallest + offset) % (largest - smallest + 1)


def _limits(class_type: object, name: str, nodes: Mapping[str, Any]) -> tuple[int, int]:
    definition = nodes.get(class_type) if isinstance(class_type, str) else None
    options: Mapping[str, Any] = {}
    for each in inputs_of(definition) if isinstance(definition, Mapping) else ():
        if each.name == name:
            options = each.options
    smallest, largest = options.get("min", 0), options.get("max", _LARGEST)
    whole = isinstance(smallest, int) and isinstance(largest, int) and smallest <= largest
    return (smallest, largest) if whole else (0, _LARGEST)
