"""Fan out: from here a batch is divided among the workers, up to where it is fanned in or gathered.

The worker that takes the prompt plans such regions (comfy_dist/calls) and has clones of their nodes executed, with
slices in place of these nodes. Where nobody has planned, the whole batch is the only slice.
"""

from __future__ import annotations

from typing import Any, ClassVar

from comfy_dist.calls.shares import MAX_CHUNKS
from comfy_dist.nodes.cluster.inputs import Inputs, whole
from comfy_dist.tensors.batches import UnusableBatch


class _FanOut:
    CATEGORY = "Cluster"
    INPUT_IS_LIST = True
    RETURN_TYPES: ClassVar[tuple[str, ...]]
    FUNCTION = "fan_out"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"input": cls.RETURN_TYPES},
            "optional": {"chunks_per_worker": whole(4, 1, MAX_CHUNKS)},
        }

    def fan_out(self, input: list[Any], chunks_per_worker: list[int] | None = None) -> tuple[Any]:
        """One batch, as it came. Raises UnusableBatch for a list of others."""
        return (only_batch(input),)


class FanOutImage(_FanOut):
    RETURN_TYPES = ("IMAGE",)


class FanOutLatent(_FanOut):
    RETURN_TYPES = ("LATENT",)


class FanOutMask(_FanOut):
    RETURN_TYPES = ("MASK",)


def only_batch(values: list[Any]) -> Any:
    """The one value that a link has brought. Raises UnusableBatch."""
    if len(values) != 1:
        raise UnusableBatch(
            f"A fan out divides one batch, and was given a list of {len(values)}. Make one batch of it (Rebatch "
            "Images, Rebatch Latents), or share the list out by Cluster Get Instance Work Item From Batch."
        )
    return values[0]


NODE_CLASS_MAPPINGS = {
    "ClusterFanOutImage": FanOutImage,
    "ClusterFanOutLatent": FanOutLatent,
    "ClusterFanOutMask": FanOutMask,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "ClusterFanOutImage": "Cluster Fan Out Image",
    "ClusterFanOutLatent": "Cluster Fan Out Latent",
    "ClusterFanOutMask": "Cluster Fan Out Mask",
}
