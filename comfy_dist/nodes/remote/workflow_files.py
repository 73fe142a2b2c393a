"""Workflows as values: the one that runs, and files of them. JSON is a prompt in the API format, as a dict."""

from __future__ import annotations

import json
from typing import Any

from comfy_dist.calls.planning import restore
from comfy_dist.nodes import folders
from comfy_dist.nodes.core.inputs import Inputs, UnusableInput
from comfy_dist.nodes.core.load import file_hash, files
from comfy_dist.workspace import PathRefused

_EXTENSION = ".json"
_CATEGORY = "remote/advanced"


class SaveDiskWorkflowJSON:
    """Saves the workflow under the output folder."""

    CATEGORY = _CATEGORY
    RETURN_TYPES = ()
    FUNCTION = "save_workflow"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        prefix = ("STRING", {"default": "workflow/ComfyUI"})
        return {"required": {"workflow": ("JSON",), "filename_prefix": prefix}}

    def save_workflow(self, workflow: Any, filename_prefix: str = "workflow/ComfyUI") -> dict[str, Any]:
        """Raises PathRefused where the prefix leads out of the folder, UnusableInput for what JSON has not."""
        try:
            content = json.dumps(workflow, indent=2).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise UnusableInput(f"This is no workflow that can be saved as JSON: {error}.") from error
        place = folders.save_place(filename_prefix, folders.folder("output"))
        number = folders.create_numbered(place, place.number, place.name, _EXTENSION, content)
        name = f"{place.name}_{number:05}_{_EXTENSION}"
        return {"ui": {"workflows": [{"filename": name, "subfolder": place.subfolder, "type": "output"}]}}


class LoadDiskWorkflowJSON:
    """A workflow of the input folder."""

    CATEGORY = _CATEGORY
    RETURN_TYPES = ("JSON",)
    RETURN_NAMES = ("Workflow JSON",)
    FUNCTION = "load_workflow"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"workflow": ([name for name in files() if name.lower().endswith(_EXTENSION)],)}}

    @classmethod
    def IS_CHANGED(cls, workflow: str) -> str:
        return file_hash(workflow)

    @classmethod
    def VALIDATE_INPUTS(cls, workflow: object) -> bool | str:
        try:
            _read(workflow)
        except (UnusableInput, PathRefused) as error:
            return str(error)
        return True

    def load_workflow(self, workflow: str) -> tuple[dict[str, Any]]:
        """Raises UnusableInput for what is no JSON object, PathRefused."""
        return (_read(workflow),)


def _read(name: object) -> dict[str, Any]:
    # Whatever it is, its content is shown to nobody: the file need not be a workflow.
    if not (isinstance(name, str) and name.lower().endswith(_EXTENSION)):
        raise UnusableInput(f"{name} is no .json file.")
    try:
        found = json.loads(folders.annotated(name).read_bytes())
    except OSError as error:
        raise UnusableInput(f"{name} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UnusableInput(f"{name} is not JSON.") from error
    if not isinstance(found, dict):
        raise UnusableInput(f"{name} is no workflow: it is not a JSON object.")
    return found


class LoadCurrentWorkflowJSON:
    """The prompt that runs, as it was submitted."""

    CATEGORY = _CATEGORY
    RETURN_TYPES = ("JSON",)
    RETURN_NAMES = ("Workflow JSON",)
    FUNCTION = "read_workflow"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {}, "hidden": {"prompt": "PROMPT"}}

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:
        """What it depends on is the whole prompt, which no cache key has."""
        return float("nan")

    def read_workflow(self, prompt: Any) -> tuple[dict[str, Any]]:
        # A note that ComfyUI leaves in nodes as it executes them.
        return (
            {
                id_: {key: node[key] for key in node if key != "is_changed"}
                for id_, node in restore(prompt).items()
            },
        )


NODE_CLASS_MAPPINGS = {
    "SaveDiskWorkflowJSON": SaveDiskWorkflowJSON,
    "LoadDiskWorkflowJSON": LoadDiskWorkflowJSON,
    "LoadCurrentWorkflowJSON": LoadCurrentWorkflowJSON,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "SaveDiskWorkflowJSON": "Save workflow (disk)",
    "LoadDiskWorkflowJSON": "Load workflow (disk)",
    "LoadCurrentWorkflowJSON": "Load workflow (current)",
}
