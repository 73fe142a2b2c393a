"""A seed of its own for every worker before a collector."""

from __future__ import annotations

from comfy_dist.calls.classes import SEED
from comfy_dist.calls.differing import SEEDS, seed_of
from comfy_dist.nodes.cluster.inputs import Inputs, whole

#: The default of workflows made for this node.
_DEFAULT = 1_125_899_906_842


class Seed:
    CATEGORY = "Distributed"
    RETURN_TYPES = ("INT",)
    RETURN_NAMES = ("seed",)
    FUNCTION = "distribute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        # In clones of a share (calls/differing.py) `share` is its number.
        return {"required": {"seed": whole(_DEFAULT, 0, SEEDS - 1)}, "hidden": {"share": ("INT", {})}}

    def distribute(self, seed: int, share: int = 0) -> tuple[int]:
        return (seed_of(seed, share),)


NODE_CLASS_MAPPINGS = {SEED: Seed}
NODE_DISPLAY_NAME_MAPPINGS = {SEED: "Distributed Seed"}
