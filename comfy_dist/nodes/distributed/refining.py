"""One tile sampled anew, by the node classes of this process: VAEEncode, KSampler, VAEDecode.

A ComfyUI has them. Engine graph has no samplers, unless a pack brings nodes of these names.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from comfy_dist.errors import ComfyDistError
from comfy_dist.nodes.distributed.tile_conditioning import View
from comfy_dist.nodes.distributed.tile_layout import STEP

_NEEDED = ("VAEEncode", "KSampler", "VAEDecode")
#: Pixels of a side that a tiled decoding takes at once.
_DECODED_AT_ONCE = 512


class NoSampler(ComfyDistError):
    """A process whose nodes cannot sample."""


class UnusableTile(ComfyDistError):
    """A tile that came back from the VAE as another thing than it went in."""


@dataclass(frozen=True, slots=True)
class Refiner:
    """The node classes with which tiles are sampled."""

    encode: type
    sample: type
    decode: type
    decode_tiled: type | None

    def refine(self, pixels: torch.Tensor, view: View, given: Mapping[str, Any]) -> torch.Tensor:
        """Pixels [B, h, w, C] of the view sampled anew, [B, h, w, C']. `given` are the inputs of the upscale node.

        Raises UnusableTile, and what the nodes raise.
        """
        batch, height, width = pixels.shape[:3]
        step = _step(given["vae"])
        latent = _run(self.encode, vae=given["vae"], pixels=_filled_up(pixels, step))
        sampled = _run(
            self.sample,
            **{name: given[name] for name in ("model", "seed", "steps", "cfg", "sampler_name", "scheduler")},
            positive=view.crop(given["positive"]),
            negative=view.crop(given["negative"]),
            latent_image=latent,
            denoise=given["denoise"],
        )
        if given["tiled_decode"] and self.decode_tiled is not None:
            image: torch.Tensor = _run(
                self.decode_tiled, vae=given["vae"], samples=sampled, tile_size=_DECODED_AT_ONCE
            )
        else:
            image = _run(self.decode, vae=given["vae"], samples=sampled)
        if image.shape[0] != batch or image.shape[1] < height or image.shape[2] < width:
            raise UnusableTile(
                f"A tile of {batch} images, {width} x {height} each, came back from the VAE "
                f"as {image.shape[0]} of {image.shape[2]} x {image.shape[1]}. A VAE of videos takes 1, 5, 9, … "
                "images."
            )
        return image[:, :height, :width]


def refiner() -> Refiner:
    """Of this process. Raises NoSampler."""
    try:
        classes: Mapping[str, type] = importlib.import_module("nodes").NODE_CLASS_MAPPINGS
    except ModuleNotFoundError:
        classes = {}
    if missing := [name for name in _NEEDED if name not in classes]:
        raise NoSampler(
            f"Tiles are refined by a sampler, and this worker's engine has none: {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not there. Let workers with the engine comfyui execute this "
            "workflow."
        )
    encode, sample, decode = (classes[name] for name in _NEEDED)
    return Refiner(encode, sample, decode, classes.get("VAEDecodeTiled"))


def _run(node_class: Any, **inputs: Any) -> Any:
    """The node's first output."""
    return getattr(node_class(), node_class.FUNCTION)(**inputs)[0]


def _step(vae: Any) -> int:
    """The VAE takes multiples of so many pixels; what is more it cuts off."""
    compression = getattr(vae, "spacial_compression_encode", None)
    return STEP if compression is None else int(compression())


def _filled_up(pixels: torch.Tensor, step: int) -> torch.Tensor:
    """To multiples of `step`, by the last row and column."""
    for dim in (1, 2):
        if missing := -pixels.shape[dim] % step:
            last = pixels.narrow(dim, pixels.shape[dim] - 1, 1)
            pixels = torch.cat((pixels, last.repeat_interleave(missing, dim)), dim)
    return pixels
