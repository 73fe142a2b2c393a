"""Ultimate SD Upscale Distributed: a picture refined tile by tile, on all workers that have the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from comfy_dist.nodes.cluster.inputs import ANY, Inputs
from comfy_dist.nodes.distributed.tile_blending import blend
from comfy_dist.nodes.distributed.tiles import layout_inputs, layout_of, refined, sampling_inputs, tiles_of


class UltimateSDUpscaleDistributed:
    """Where a worker has planned the prompt, `results` brings the refined tiles, and models are not asked for."""

    CATEGORY = "image/upscaling"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        sampling = sampling_inputs()
        tiled_decode = sampling.pop("tiled_decode")
        # In the order that saved workflows have their widgets' values in.
        required = {"upscaled_image": ("IMAGE",), **sampling, **layout_inputs(), "tiled_decode": tiled_decode}
        return {"required": required, "hidden": {"results": (ANY,)}}

    def check_lazy_status(self, results: Any = None, **given: Any) -> list[str]:
        models = ("model", "positive", "negative", "vae")
        return [name for name in models if given.get(name) is None] if results is None else []

    def run(
        self, upscaled_image: torch.Tensor, results: Sequence[torch.Tensor] | None = None, **given: Any
    ) -> tuple[torch.Tensor]:
        """[B, H, W, C]. Raises UnusableInput, NoSampler, UnusableTile, UnusableBatch."""
        layout = layout_of(upscaled_image, given)
        tiles = refined(tiles_of(upscaled_image, layout), given) if results is None else results
        return (blend(tiles, layout) if upscaled_image.numel() else upscaled_image,)


NODE_CLASS_MAPPINGS = {"UltimateSDUpscaleDistributed": UltimateSDUpscaleDistributed}
NODE_DISPLAY_NAME_MAPPINGS = {"UltimateSDUpscaleDistributed": "Ultimate SD Upscale Distributed (No Upscale)"}
