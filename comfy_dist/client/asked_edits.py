"""What the command line changes in a prompt before it is submitted: --set."""

from __future__ import annotations

import json
from typing import Any

from comfy_dist.errors import UsageError
from comfy_dist.workflows.edits import Edit


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
