"""Freeing memory of the engine that executes the node: at once, or when the prompt has ended."""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Any

import torch

from comfy_dist.nodes.cluster.inputs import ANY, Inputs
from comfy_dist.nodes.cluster.worker import worker


class _Free:
    CATEGORY = "Cluster"
    OUTPUT_NODE = True
    FUNCTION = "free"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        switch = ("BOOLEAN", {"default": True})
        return {"required": {"anything": (ANY,), "unload_models": switch, "free_memory": switch}}


class FreeNow(_Free):
    RETURN_TYPES = (ANY,)

    def free(self, anything: Any, unload_models: bool, free_memory: bool) -> tuple[Any]:
        """The input as it is, when models are out of the device's memory, and what nobody uses is given back."""
        free_now(unload_models, free_memory)
        return (anything,)


class FinallyFree(_Free):
    RETURN_TYPES = ()

    async def free(self, anything: Any, unload_models: bool, free_memory: bool) -> tuple[()]:
        """Ask for it. As ComfyUI's /free, `free_memory` forgets the outputs that are cached."""
        if (here := worker()) is not None:
            await here.thread.run(here.ask("free", unload_models=unload_models, free_memory=free_memory))
        elif (queue := _queue()) is not None:
            for flag, wanted in (("unload_models", unload_models), ("free_memory", free_memory)):
                if wanted:
                    queue.set_flag(flag, True)
        else:
            free_now(unload_models, free_memory)
        return ()


def free_now(unload_models: bool, free_memory: bool) -> None:
    """Where the engine manages models it unloads them."""
    try:
        management = importlib.import_module("comfy.model_management")
    except ImportError:
        management = None
    if unload_models and management is not None:
        management.unload_all_models()
    if free_memory:
        gc.collect()
        if management is not None:
            management.soft_empty_cache()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _queue() -> Any:
    """ComfyUI's queue of prompts; None where there is none in this process."""
    server: Any = sys.modules.get("server")
    return getattr(server.PromptServer.instance, "prompt_queue", None) if server is not None else None


NODE_CLASS_MAPPINGS = {"ClusterFreeNow": FreeNow, "ClusterFinallyFree": FinallyFree}
NODE_DISPLAY_NAME_MAPPINGS = {
    "ClusterFreeNow": "Cluster Free Now",
    "ClusterFinallyFree": "Cluster Finally Free",
}
