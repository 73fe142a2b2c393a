"""A workflow on several ComfyUIs, each with seeds of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from comfy_dist.calls.remote_prompts import MOST_IMAGES, SEEDS
from comfy_dist.errors import ComfyDistError
from comfy_dist.nodes.cluster.inputs import Inputs, whole
from comfy_dist.nodes.remote.queueing import (
    ALWAYS,
    DEFAULT_URL,
    DISABLED,
    ENABLED,
    HIDDEN,
    ON_CHANGE,
    ON_REMOTE,
    begun,
    seed_input,
)
from comfy_dist.nodes.remote.remote_info import ANY_OUTPUT, RemoteInfo

_CATEGORY = "remote/advanced"


class NoWorkflow(ComfyDistError):
    """What a chain is to send is no workflow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """REMCHAIN: what each of its workers goes on from."""

    workflow: Mapping[str, Any]
    seed: int
    batch: int
    #: How many images come before: the next worker's seed is so much more.
    images: int


class RemoteChainStart:
    """Begins a chain of remotes, which all execute the workflow."""

    CATEGORY = _CATEGORY
    RETURN_TYPES = ("REMCHAIN",)
    RETURN_NAMES = ("remote_chain",)
    FUNCTION = "start"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "workflow": ("JSON",),
                "trigger": ([ON_CHANGE, ALWAYS],),
                "batch": whole(1, 1, MOST_IMAGES),
                "seed": seed_input(),
            }
        }

    @classmethod
    def IS_CHANGED(cls, trigger: str | None = None, **_: Any) -> float | str:
        return float("nan") if trigger == ALWAYS else ""

    def start(self, workflow: Any, trigger: str, batch: int, seed: int) -> tuple[Chain]:
        """Raises NoWorkflow."""
        if not isinstance(workflow, Mapping):
            raise NoWorkflow("What is linked to workflow is none; use Load workflow (current) or (disk).")
        return (Chain(workflow=workflow, seed=seed, batch=batch, images=batch),)


class RemoteQueueWorker:
    """Sends the chain's workflow to a remote, whose seed follows all images before its own."""

    CATEGORY = _CATEGORY
    RETURN_TYPES = ("REMCHAIN", "REMINFO")
    RETURN_NAMES = ("remote_chain", "remote_info")
    FUNCTION = "queue"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "remote_chain": ("REMCHAIN",),
                "remote_url": ("STRING", {"default": DEFAULT_URL}),
                "batch_override": whole(0, 0, MOST_IMAGES),
                "enabled": ([ENABLED, DISABLED, ON_REMOTE], {"default": ENABLED}),
                "outputs": (["final_image", ANY_OUTPUT], {"default": "final_image"}),
            },
            "hidden": HIDDEN,
        }

    async def queue(
        self,
        remote_chain: Chain,
        remote_url: str,
        batch_override: int,
        enabled: str,
        outputs: str,
        prompt: Any,
        node_id: str,
        extra_pnginfo: Any = None,
    ) -> tuple[Chain, RemoteInfo | dict[str, Any]] | dict[str, Any]:
        """Raises UnknownRemote, NotQueued."""
        # Not at the top: an engine starts faster without the client of what it may never ask.
        from comfy_dist.nodes.remote.dispatch import dispatched

        batch = batch_override or remote_chain.batch
        seed = (remote_chain.seed + remote_chain.images) % SEEDS
        if enabled == ON_REMOTE:
            return replace(remote_chain, seed=seed, batch=batch, images=batch), {}
        # One that is not enabled keeps its place, so that nobody else's seed depends on that.
        further = replace(remote_chain, images=remote_chain.images + batch)
        if enabled == DISABLED:
            return further, {}
        info = RemoteInfo(
            remote_url=remote_url,
            node=node_id,
            seed=seed,
            batch=batch,
            outputs=outputs,
            workflow=remote_chain.workflow,
        )
        return await begun(dispatched(prompt, info, extra_pnginfo), (further, info))


class RemoteChainEnd:
    """Seed and batch size for whoever executes the workflow."""

    CATEGORY = _CATEGORY
    RETURN_TYPES = ("INT", "INT")
    RETURN_NAMES = ("seed", "batch")
    FUNCTION = "end"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"remote_chain": ("REMCHAIN",)}}

    def end(self, remote_chain: Chain) -> tuple[int, int]:
        return remote_chain.seed, remote_chain.batch


NODE_CLASS_MAPPINGS = {
    "RemoteChainStart": RemoteChainStart,
    "RemoteQueueWorker": RemoteQueueWorker,
    "RemoteChainEnd": RemoteChainEnd,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "RemoteChainStart": "Queue on remote (start of chain)",
    "RemoteQueueWorker": "Queue on remote (worker)",
    "RemoteChainEnd": "Queue on remote (end of chain)",
}
