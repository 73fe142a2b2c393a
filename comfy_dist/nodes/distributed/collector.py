"""The collector: all before it is executed by every selected worker, and here is what they have made.

The worker that takes the prompt plans that (comfy_dist/calls); `results` then brings what each share has made, and
the nodes before this one are not asked to run here. Where nobody has planned, there is one share.
"""

from __future__ import annotations

from typing import Any

import torch

from comfy_dist.calls.classes import COLLECTED, COLLECTED_INPUTS, COLLECTOR
from comfy_dist.nodes.cluster.inputs import ANY, Inputs
from comfy_dist.nodes.cluster.worker import worker
from comfy_dist.nodes.distributed.collected import Audio, audio_of, images_of


class Collector:
    CATEGORY = "Distributed"
    INPUT_IS_LIST = True
    RETURN_TYPES = ("IMAGE", "AUDIO")
    RETURN_NAMES = ("images", "audio")
    FUNCTION = "collect"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"images": ("IMAGE", {"lazy": True})},
            "optional": {
                # Prompts that were saved before the node had it are without.
                "load_balance": (
                    "BOOLEAN",
                    {"default": False, "tooltip": "Executed once, by the worker that has the least to do."},
                ),
                "audio": ("AUDIO", {"lazy": True}),
            },
            "hidden": {"results": (ANY,)},
        }

    def check_lazy_status(self, results: list[Any] | None = None, **given: Any) -> list[str]:
        # Engines name what is linked, though it has no value yet.
        return [name for name in COLLECTED_INPUTS if name in given] if results is None else []

    def collect(
        self,
        images: list[Any] | None = None,
        load_balance: list[bool] | None = None,
        audio: list[Any] | None = None,
        results: list[Any] | None = None,
    ) -> tuple[torch.Tensor, Audio]:
        """[B, H, W, C], and the sound; the shares in their order, the parent's first. Raises UnusableBatch."""
        shares = [_part(images, audio)] if results is None else results
        return images_of(shares), audio_of(shares)


class Collected:
    """What one share has made for a collector."""

    CATEGORY = "Cluster/hidden"
    DEPRECATED = True
    INPUT_IS_LIST = True
    RETURN_TYPES = (ANY,)
    FUNCTION = "collect"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {}, "optional": {"images": ("IMAGE",), "audio": ("AUDIO",)}}

    def collect(self, images: list[Any] | None = None, audio: list[Any] | None = None) -> tuple[dict[str, Any]]:
        return (_part(images, audio),)


def _part(images: list[Any] | None, audio: list[Any] | None) -> dict[str, Any]:
    here = worker()
    return {
        "worker": here.worker if here is not None else "",
        "images": images or [],
        "audio": [each for each in audio or [] if each is not None],
    }


NODE_CLASS_MAPPINGS = {COLLECTOR: Collector}
NODE_DISPLAY_NAME_MAPPINGS = {COLLECTOR: "Distributed Collector"}
HIDDEN = {COLLECTED: Collected}
