"""Changes to a prompt before it is submitted: --set and --repeat."""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from comfy_dist.client.sentences import title
from comfy_dist.client.ui_format import Prompt
from comfy_dist.errors import UsageError

_SEEDS = ("seed", "noise_seed")
#: ComfyUI's seeds are unsigned 64 bit numbers.
_SEED_END = 2**64


@dataclass(frozen=True, slots=True)
class Edit:
    """`NODE.INPUT=VALUE`."""

    node: str
    input: str
    value: Any

    @classmethod
    def parse(cls, text: str) -> Edit:
        place, equals, value = text.partition("=")
        # Titles may have dots, names of inputs have none.
        node, dot, name = place.rpartition(".")
        if not (equals and dot and node and name):
            raise UsageError(f"--set {text}: write NODE.INPUT=VALUE, NODE being an id or a title.")
        return cls(node, name, _value(value))


def _value(text: str) -> Any:
    """JSON where it is JSON, else the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def edited(prompt: Prompt, edits: Iterable[Edit], name: str) -> Prompt:
    """A copy with the inputs set. Raises UsageError for a node or input that `name`, the file, does not have."""
    result = copy.deepcopy(prompt)
    for edit in edits:
        node = _find(result, edit.node, name)
        inputs = result[node].setdefault("inputs", {})
        if edit.input not in inputs:
            close = difflib.get_close_matches(edit.input, inputs, 1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(inputs) or 'none'}."
            raise UsageError(
                f"--set: node {node} ({title(result, node)}) of {name} has no input {edit.input}; {hint}"
            )
        inputs[edit.input] = edit.value
    return result


def _find(prompt: Prompt, wanted: str, name: str) -> str:
    """The node with this id, else with this title."""
    if wanted in prompt:
        return wanted
    found = [node for node in prompt if title(prompt, node) == wanted]
    if len(found) > 1:
        raise UsageError(
            f"--set: {len(found)} nodes of {name} are called {wanted}; use an id: {', '.join(found)}."
        )
    if not found:
        there = ", ".join(f"{node} ({title(prompt, node)})" for node in prompt)
        raise UsageError(f"--set: {name} has no node {wanted!r}; it has {there}.")
    return found[0]


def reseeded(prompt: Prompt, offset: int) -> Prompt:
    """A copy whose seeds are `offset` further on."""
    result = copy.deepcopy(prompt)
    for node in result.values():
        for seed in _SEEDS:
            value = node.get("inputs", {}).get(seed)
            if isinstance(value, int) and not isinstance(value, bool):
                node["inputs"][seed] = (value + offset) % _SEED_END
    return result
