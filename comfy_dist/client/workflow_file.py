"""Workflow files: API or UI format, as JSON or inside a picture that ComfyUI saved."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_dist.client.picture_texts import picture_texts
from comfy_dist.client.ui_format import Prompt
from comfy_dist.client.ui_graph import is_ui_format
from comfy_dist.errors import UsageError


@dataclass(frozen=True, slots=True)
class WorkflowFile:
    """At least one of both forms; with both, the prompt is what made the picture."""

    name: str
    prompt: Prompt | None
    #: The page's form; saved pictures carry it.
    workflow: dict[str, Any] | None


def read(name: str) -> WorkflowFile:
    """A file, or standard input for `-`. Raises UsageError for what is no workflow."""
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}.") from None
    shown = "standard input" if name == "-" else name
    texts = picture_texts(content)
    if texts is not None:
        return _from_picture(shown, texts)
    found = _json(shown, content)
    if is_ui_format(found):
        return WorkflowFile(shown, None, found)
    # A body of POST /prompt holds the prompt under that name.
    inner = found.get("prompt") if isinstance(found, dict) else None
    prompt = inner if _is_prompt(inner) else found
    if not _is_prompt(prompt):
        raise UsageError(
            f"{shown} is no workflow: neither nodes with class_type (API format) nor a graph of ComfyUI's page."
        )
    return WorkflowFile(shown, prompt, None)


def _from_picture(name: str, texts: Mapping[str, bytes]) -> WorkflowFile:
    prompt = _json(name, texts["prompt"]) if "prompt" in texts else None
    workflow = _json(name, texts["workflow"]) if "workflow" in texts else None
    prompt = prompt if _is_prompt(prompt) else None
    workflow = workflow if is_ui_format(workflow) else None
    if prompt is None and workflow is None:
        raise UsageError(f"{name} carries no workflow; ComfyUI puts one into the pictures that it saves.")
    return WorkflowFile(name, prompt, workflow)


def _json(name: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not JSON: {error}.") from None


def _is_prompt(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(node, dict) and "class_type" in node for node in value.values())
    )
