"""Workflow files of this machine: API or UI format, as JSON or inside a picture that ComfyUI saved."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from comfy_dist.client.picture_texts import picture_texts
from comfy_dist.errors import UsageError
from comfy_dist.workflows.formats import WorkflowFile, is_prompt, of_json, parsed
from comfy_dist.workflows.ui_graph import is_ui_format


def read(name: str) -> WorkflowFile:
    """A file, or standard input for `-`. Raises UsageError for what is no workflow."""
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}.") from None
    shown = "standard input" if name == "-" else name
    texts = picture_texts(content)
    return of_json(shown, content) if texts is None else _from_picture(shown, texts)


def _from_picture(name: str, texts: Mapping[str, bytes]) -> WorkflowFile:
    prompt = parsed(name, texts["prompt"]) if "prompt" in texts else None
    workflow = parsed(name, texts["workflow"]) if "workflow" in texts else None
    prompt = prompt if is_prompt(prompt) else None
    workflow = workflow if is_ui_format(workflow) else None
    if prompt is None and workflow is None:
        raise UsageError(f"{name} carries no workflow; ComfyUI puts one into the pictures that it saves.")
    return WorkflowFile(name, prompt, workflow)
