"""Inputs of a prompt set from outside, by a node's id or title."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from comfy_dist.errors import UsageError
from comfy_dist.workflows.ui_format import Prompt


@dataclass(frozen=True, slots=True)
class Edit:
    """One input of one node, which is an id or a title."""

    node: str
    input: str
    value: Any


def title(prompt: Mapping[str, Any], node: str) -> str:
    """What a person knows the node as."""
    entry = prompt.get(node) or {}
    return str((entry.get("_meta") or {}).get("title") or entry.get("class_type") or node)


def edited(prompt: Prompt, edits: Iterable[Edit], name: str, asked_by: str) -> Prompt:
    """A copy with the inputs set.

    Raises UsageError for a node or input that `name`, the file, does not have; `asked_by` is where to correct it.
    """
    result = copy.deepcopy(prompt)
    for edit in edits:
        node = _find(result, edit.node, name, asked_by)
        inputs = result[node].setdefault("inputs", {})
        if edit.input not in inputs:
            close = difflib.get_close_matches(edit.input, inputs, 1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(inputs) or 'none'}."
            raise UsageError(
                f"{asked_by}: node {node} ({title(result, node)}) of {name} has no input {edit.input}; {hint}"
            )
        inputs[edit.input] = edit.value
    return result


def _find(prompt: Prompt, wanted: str, name: str, asked_by: str) -> str:
    """The node with this id, else with this title."""
    if wanted in prompt:
        return wanted
    found = [node for node in prompt if title(prompt, node) == wanted]
    if len(found) > 1:
        raise UsageError(
            f"{asked_by}: {len(found)} nodes of {name} are called {wanted}; use an id: {', '.join(found)}."
        )
    if not found:
        there = ", ".join(f"{node} ({title(prompt, node)})" for node in prompt)
        raise UsageError(f"{asked_by}: {name} has no node {wanted!r}; it has {there}.")
    return found[0]
