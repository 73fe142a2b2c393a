"""What is executed of a saved workflow. Reads a file and may convert a large graph: not for an event loop."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfy_dist.errors import UsageError
from comfy_dist.workflows.edits import Edit, edited
from comfy_dist.workflows.folder import canonical, workflow_file
from comfy_dist.workflows.formats import of_json
from comfy_dist.workflows.ui_format import Prompt, refuse_missing


def load_workflow(
    user_folder: Path, path: str, nodes_info: Mapping[str, Any], inputs: str = "", user: str | None = None
) -> tuple[Prompt, tuple[str, ...]]:
    """The prompt, and its output nodes.

    `path` is a name as saved_workflows() gives it, `nodes_info` the /object_info of every class that may be
    executed, `inputs` a JSON text {node id or title: {input: value}}, or "", and `user` whom it is for, where
    people sign in. Raises ComfyDistError with a sentence for whatever is wrong with one of them.
    """
    name = canonical(path)
    edits = parsed_inputs(inputs)
    file = workflow_file(user_folder, name, user)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"The workflow {name} cannot be read: {error.strerror}.") from None
    prompt = of_json(f"The workflow {name}", content).as_prompt(nodes_info)
    for node, entry in prompt.items():
        if not isinstance(entry["class_type"], str) or not isinstance(entry.setdefault("inputs", {}), dict):
            raise UsageError(f"Node {node} of the workflow {name} needs a class_type and an object of inputs.")
    refuse_missing((entry["class_type"] for entry in prompt.values()), nodes_info)
    targets = tuple(node for node, entry in prompt.items() if nodes_info[entry["class_type"]].get("output_node"))
    if not targets:
        raise UsageError(f"The workflow {name} has no output node, so there is nothing to execute in it.")
    return edited(prompt, edits, name, "inputs"), targets


def parsed_inputs(text: str) -> list[Edit]:
    """Raises UsageError for what is no JSON of that form."""
    if not text.strip():
        return []
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"inputs is not JSON: {error}.") from None
    if not isinstance(given, dict) or not all(isinstance(each, dict) for each in given.values()):
        raise UsageError('inputs must be {"node id or title": {"input": value}}.')
    return [Edit(node, name, value) for node, each in given.items() for name, value in each.items()]
