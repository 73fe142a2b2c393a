"""What the command line changes in a prompt before it is submitted: --set and --repeat."""

from __future__ import annotations

import copy
import json
from typing import Any

from comfy_dist.errors import UsageError
from comfy_dist.workflows.edits import Edit
from comfy_dist.workflows.ui_format import Prompt

_SEEDS = ("seed", "noise_seed")
#: ComfyUI's seeds are unsigned 64 bit numbers.
_SEED_END = 2**64


def parse(text: str) -> Edit:
    """`NODE.INPUT=VALUE`."""
    place, equals, value = text.partition("=")
    # Titles may have dots, names of inputs have none.
    node, dot, name = place.rpartition(".")
    if not (equals and dot and node and name):
        raise UsageError(f"--set {text}: write NODE.INPUT=VALUE, NODE being an id or a title.")
    return Edit(node, name, _value(value))


def _value(text: str) -> Any:
    """JSON where it is JSON, else the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def reseeded(prompt: Prompt, offset: int) -> Prompt:
    """A copy whose seeds are `offset` further on."""
    result = copy.deepcopy(prompt)
    for node in result.values():
        for seed in _SEEDS:
            value = node.get("inputs", {}).get(seed)
            if isinstance(value, int) and not isinstance(value, bool):
                node["inputs"][seed] = (value + offset) % _SEED_END
    return result
