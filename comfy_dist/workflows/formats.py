"""A workflow in one of its two formats: a prompt, as scripts send it, or the graph of ComfyUI's page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfy_dist.errors import ComfyDistError, UsageError
from comfy_dist.workflows.ui_format import Prompt, to_prompt
from comfy_dist.workflows.ui_graph import is_ui_format


@dataclass(frozen=True, slots=True)
class WorkflowFile:
    """At least one of both forms; with both, the prompt is what made the picture."""

    name: str
    prompt: Prompt | None
    #: The page's form; saved pictures carry it.
    workflow: dict[str, Any] | None

    def as_prompt(self, object_info: Mapping[str, Any]) -> Prompt:
        """Raises MissingClasses, NotAGraph and GoesInCircles, with the file's name."""
        if self.prompt is not None:
            return self.prompt
        assert self.workflow is not None
        try:
            return to_prompt(self.workflow, object_info)
        except ComfyDistError as error:
            error.args = (f"{self.name}: {error}",)
            raise


def of_json(name: str, content: bytes) -> WorkflowFile:
    """Raises UsageError for what is no workflow."""
    found = parsed(name, content)
    if is_ui_format(found):
        return WorkflowFile(name, None, found)
    # A body of POST /prompt holds the prompt under that name.
    inner = found.get("prompt") if isinstance(found, dict) else None
    prompt = inner if is_prompt(inner) else _without_remarks(found)
    if not is_prompt(prompt):
        raise UsageError(
            f"{name} is no workflow: neither nodes with class_type (API format) nor a graph of ComfyUI's page."
        )
    return WorkflowFile(name, prompt, None)


def _without_remarks(found: Any) -> Any:
    """People write texts between the nodes, as "_comment": JSON has no other place for them."""
    if not isinstance(found, dict):
        return found
    return {key: each for key, each in found.items() if not (key.startswith("_") and isinstance(each, str))}


def parsed(name: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not JSON: {error}.") from None


def is_prompt(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(node, dict) and "class_type" in node for node in value.values())
    )
