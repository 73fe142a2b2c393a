"""Broadcast and listen: one whole value for all ranks, and for the workflows that a job executes elsewhere.

The worker's plan links a Listen to the Broadcast of its channel in the same prompt, and tells a Broadcast whether
others may listen. Where nobody has planned, a Listen finds its Broadcast itself.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from comfy_dist.calls.classes import LISTEN
from comfy_dist.calls.listens import DEFAULT_CHANNEL, Channels
from comfy_dist.calls.planning import restore
from comfy_dist.errors import ComfyDistError
from comfy_dist.nodes.cluster.inputs import ANY, Inputs
from comfy_dist.nodes.cluster.lists import as_list
from comfy_dist.nodes.cluster.worker import interrupting, worker

if TYPE_CHECKING:
    from comfy_dist.calls.here import Here

_CHANNEL = ("STRING", {"default": DEFAULT_CHANNEL})
#: Whether workflows that the job sends elsewhere may listen; set by the plan.
_PUBLISH = ("BOOLEAN",)


class NobodyBroadcasts(ComfyDistError):
    """A Listen whose channel has no Broadcast."""


def _always() -> float:
    """For IS_CHANGED, as what is cached was published for a job that is over. One of its own each time: ComfyUI's
    cache keys are tuples, to which one NaN object is equal to itself."""
    return float("nan")


class BroadcastTensor:
    CATEGORY = "Cluster"
    INPUT_IS_LIST = True
    RETURN_TYPES = (ANY,)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "broadcast"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"input": (ANY,)},
            "optional": {"channel": _CHANNEL},
            "hidden": {"publish": _PUBLISH},
        }

    @classmethod
    def IS_CHANGED(cls, publish: list[bool] | None = None, **_: Any) -> float | str:
        return _always() if publish else ""

    async def broadcast(
        self, input: list[Any], channel: list[str] | None = None, publish: list[bool] | None = None
    ) -> tuple[list[Any]]:
        """The input as it is. Raises CannotTravel for what only works in this process, LinkLost, LinkRefused."""
        if publish:
            await _publish((channel or [DEFAULT_CHANNEL])[0], input)
        return (input,)


class BroadcastLoadedImage:
    """A picture of the input folder, on the channel "default". One worker loads it, also where many get it."""

    CATEGORY = "Cluster"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "broadcast"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        required: dict[str, Any] = _load_image().INPUT_TYPES()["required"]
        return {"required": {"image": required["image"]}, "hidden": {"publish": _PUBLISH}}

    @classmethod
    def IS_CHANGED(cls, image: str, publish: bool = False) -> Any:
        return _always() if publish else _load_image().IS_CHANGED(image)

    @classmethod
    def VALIDATE_INPUTS(cls, image: str) -> Any:
        return _load_image().VALIDATE_INPUTS(image)

    async def broadcast(self, image: str, publish: bool = False) -> tuple[Any]:
        """IMAGE [B, H, W, 3] as the engine's own LoadImage gives it."""
        loader = _load_image()()
        loaded = getattr(loader, loader.FUNCTION)(image)[0]
        if publish:
            await _publish(DEFAULT_CHANNEL, [loaded])
        return (loaded,)


class ListenTensorBroadcast:
    CATEGORY = "Cluster"
    INPUT_IS_LIST = True
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "listen"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "optional": {"channel": _CHANNEL},
            "hidden": {"results": (ANY,), "prompt": "DYNPROMPT", "node_id": "UNIQUE_ID"},
        }

    @classmethod
    def IS_CHANGED(cls, **given: Any) -> float | str:
        return "" if "results" in given else _always()

    async def listen(
        self,
        prompt: list[Any],
        node_id: list[str],
        channel: list[str] | None = None,
        results: list[Any] | None = None,
    ) -> tuple[list[Any]] | dict[str, Any]:
        """What was broadcast, as soon as it is. Raises NobodyBroadcasts, RegionError, NotPulled, …"""
        if results is not None:
            return (results,)
        name = (channel or [DEFAULT_CHANNEL])[0]
        channels = Channels(restore(prompt[0].get_original_prompt()))
        asked = {"class_type": LISTEN, "inputs": {"channel": name}}
        channels.judge(node_id[0], asked)
        if found := channels.heard_by(asked):
            return as_list({}, node_id[0], found[0])
        if (here := worker()) is None:
            raise NobodyBroadcasts(
                f"Nothing in this workflow broadcasts on the channel {name!r}; add a Cluster Broadcast Tensor, or "
                "name its channel. (What other workflows broadcast is heard by workers of a cluster.)"
            )
        with interrupting():
            return (await here.thread.run(_listen(here, name)),)


def _load_image() -> Any:
    """LoadImage of the engine that this process is."""
    theirs = getattr(sys.modules.get("nodes"), "NODE_CLASS_MAPPINGS", {})
    return theirs.get("LoadImage") or importlib.import_module("comfy_dist.nodes.core.load").LoadImage


async def _publish(channel: str, values: list[Any]) -> None:
    if (here := worker()) is not None:
        with interrupting():
            await here.thread.run(_tell(here, channel, values))


async def _tell(here: Here, channel: str, values: list[Any]) -> None:
    job = await here.job()
    packed = here.plane.pack(values, job.id)
    await job.wait(here.ask("publish", channel=channel, value=packed))


async def _listen(here: Here, channel: str) -> list[Any]:
    job = await here.job()
    answer = await job.wait(here.ask("listen", timeout=None, channel=channel))
    values: list[Any] = await job.wait(here.plane.unpack(answer["value"]))
    return values


NODE_CLASS_MAPPINGS = {
    "ClusterBroadcastTensor": BroadcastTensor,
    "ClusterListenTensorBroadcast": ListenTensorBroadcast,
    "ClusterBroadcastLoadedImage": BroadcastLoadedImage,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "ClusterBroadcastTensor": "Cluster Broadcast Tensor",
    "ClusterListenTensorBroadcast": "Cluster Listen Tensor Broadcast",
    "ClusterBroadcastLoadedImage": "Cluster Broadcast Loaded Image",
}
