"""Whole workflows on other workers: a saved one, or the one that runs."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfy_dist.calls.classes import LISTEN
from comfy_dist.calls.planning import restore
from comfy_dist.calls.sent_workflows import (
    EXECUTE,
    Result,
    Workflow,
    called_within,
    in_place,
    refuse_all_others,
    shown_by,
    within,
    without_execute_current,
)
from comfy_dist.errors import ComfyDistError
from comfy_dist.nodes import folders
from comfy_dist.nodes.cluster.inputs import ANY, Inputs
from comfy_dist.nodes.cluster.worker import interrupting, worker
from comfy_dist.workflows.folder import canonical, saved_workflows, workflow_file

if TYPE_CHECKING:
    from comfy_dist.calls.here import Here

ALL_OTHERS, ANY_WORKER = "all", "any"
_TARGET = ([ALL_OTHERS, ANY_WORKER], {"default": ALL_OTHERS})
_HIDDEN = {"prompt": "DYNPROMPT", "node_id": "UNIQUE_ID"}
_SUGGESTED = "workflow.json"


class NoCluster(ComfyDistError):
    """A node that needs workers where none started this process."""


class NotHere(ComfyDistError):
    """A node in a place where what it is to do has no meaning."""


class _Executing:
    CATEGORY = "Cluster"
    RETURN_TYPES = ("IMAGE", ANY)
    RETURN_NAMES = ("IMAGE", "results")
    FUNCTION = "execute"


class ExecuteWorkflow(_Executing):
    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        names = saved_workflows(user_folder()) or [_SUGGESTED]
        default = _SUGGESTED if _SUGGESTED in names else names[0]
        return {
            "required": {"workflow_path": (names, {"default": default}), "image": ("IMAGE",)},
            "optional": {"inputs": ("STRING", {"default": "", "multiline": True}), "target": _TARGET},
            "hidden": _HIDDEN,
        }

    @classmethod
    def VALIDATE_INPUTS(cls, workflow_path: str | None = None) -> str | bool:
        """Workflows may be saved after the list was made. A link's value is None here."""
        try:
            if workflow_path is not None:
                workflow_file(user_folder(), workflow_path)
        except ComfyDistError as error:
            return str(error)
        return True

    @classmethod
    def IS_CHANGED(cls, workflow_path: str, **_: Any) -> str | float:
        """By the file: like any node, it does the same once. One that may hear what nodes broadcast which are no
        inputs of this one is never known to do the same."""
        saved = workflow_file(user_folder(), workflow_path).read_bytes()
        if any(name.encode() in saved for name in (LISTEN, EXECUTE)):
            return float("nan")
        return hashlib.sha256(saved).hexdigest()

    async def execute(
        self,
        workflow_path: str,
        image: Any,
        prompt: Any,
        node_id: str,
        inputs: str = "",
        target: str = ALL_OTHERS,
    ) -> dict[str, Any]:
        """The image as it is, and what the workers have made. Raises ComfyDistError."""
        title = f"The workflow {canonical(workflow_path)}"
        here = _here()
        names = called_within(prompt.get_node(node_id)["inputs"], workflow_path)
        if len(names) > 1 and target == ALL_OTHERS:
            # Executed here, where nobody else was free, it does what it does elsewhere.
            refuse_all_others(title)
        with interrupting():
            asked = here.ask("workflow", path=workflow_path, inputs=inputs)
            found = await here.thread.run(asked)
            workflow = Workflow(
                title=title,
                prompt=within(found["prompt"], names),
                targets=found["targets"],
                node=prompt.get_display_node_id(node_id),
                image=image,
            )
            results = await here.thread.run(_executed(here, workflow, target))
        return _given(here, workflow, results, prompt, node_id, shown=False)


class ExecuteCurrentWorkflow(_Executing):
    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",)}, "optional": {"target": _TARGET}, "hidden": _HIDDEN}

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:
        """What it depends on is the whole prompt, which no cache key of its has."""
        return float("nan")

    async def execute(self, image: Any, prompt: Any, node_id: str, target: str = ALL_OTHERS) -> dict[str, Any]:
        """The image as it is, and what the workers have made. Raises ComfyDistError."""
        here = _here()
        if node_id not in prompt.get_original_prompt():
            raise NotHere(
                "Cluster Execute Current Workflow stands inside of a region that is divided among workers, or of "
                "what a node expands into; put it outside."
            )
        with interrupting():
            found = await here.thread.run(here.ask("workflow"))
            workflow = Workflow(
                title="The current workflow",
                prompt=without_execute_current(restore(found["prompt"])),
                targets=found["targets"],
                node=prompt.get_display_node_id(node_id),
                image=image,
            )
            results = await here.thread.run(_executed(here, workflow, target))
        return _given(here, workflow, results, prompt, node_id, shown=True)


def user_folder() -> Path:
    """Where this engine's user files are."""
    theirs = sys.modules.get("folder_paths")
    return folders.workspace().user if theirs is None else Path(theirs.get_user_directory())


def _here() -> Here:
    if (here := worker()) is None:
        raise NoCluster("Workflows are executed by workers of a cluster, and none has started this engine.")
    return here


async def _executed(here: Here, workflow: Workflow, target: str) -> list[Result] | None:
    """None: it is to be executed here."""
    from comfy_dist.calls.workflow_calls import on_all_others, on_any

    job = await here.job()
    execute = on_any if target == ANY_WORKER else on_all_others
    return await job.wait(execute(here, job, workflow))


def _given(
    here: Here, workflow: Workflow, results: list[Result] | None, prompt: Any, node_id: str, *, shown: bool
) -> dict[str, Any]:
    if results is not None:
        return {"ui": shown_by(results), "result": (workflow.image, results)}
    own: Mapping[str, Any] = prompt.get_node(node_id)["inputs"]
    prefix = f"{node_id}.workflow"
    graph = in_place(workflow.prompt, workflow.targets, prefix, own["image"], shown=shown)
    # What its nodes show is in the prompt's own outputs.
    return {"result": (workflow.image, [{"worker": here.worker, "outputs": {}}]), "expand": graph}


NODE_CLASS_MAPPINGS = {
    "ClusterExecuteWorkflow": ExecuteWorkflow,
    "ClusterExecuteCurrentWorkflow": ExecuteCurrentWorkflow,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "ClusterExecuteWorkflow": "Cluster Execute Workflow",
    "ClusterExecuteCurrentWorkflow": "Cluster Execute Current Workflow",
}
