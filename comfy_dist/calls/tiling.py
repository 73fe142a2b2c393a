"""A tiled upscale, unfolded: its tiles fanned out, refined by all ranks, and fanned in again. Pure.

In front of the node X go `X.tiles`, which cuts the picture, a fan out of that list, `X.refine`, and a fan in,
whose list X blends. So tiles are shared out as any batch is. Models are carried; a rank is sent the tiles that it
takes, and nobody the whole picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from comfy_dist.calls.classes import CLOSED, REFINE, TILES
from comfy_dist.calls.links import RESULTS, Node, inputs_of, is_link, shown_as

_PICTURE = "upscaled_image"
_LAYOUT = ("tile_width", "tile_height", "padding", "mask_blur", "force_uniform_tiles")
_SAMPLING = (
    "model",
    "positive",
    "negative",
    "vae",
    "seed",
    "steps",
    "cfg",
    "sampler_name",
    "scheduler",
    "denoise",
    "tiled_decode",
)


def unfold(node_id: str, node: Mapping[str, Any], fresh: Callable[[str], str]) -> dict[str, Node]:
    """The nodes in front of an upscale, and itself with what they give. None where it has no picture."""
    inputs = inputs_of(node)
    if not is_link(inputs.get(_PICTURE)):
        return {}
    tiles, share, refine, done = (fresh(f"{node_id}.{name}") for name in ("tiles", "share", "refine", "refined"))

    def hidden(class_type: str, **given: Any) -> Node:
        return {"class_type": class_type, "inputs": given, "override_display_id": shown_as(node_id, node)}

    def own(names: tuple[str, ...]) -> dict[str, Any]:
        return {name: inputs[name] for name in names if name in inputs}

    return {
        tiles: hidden(TILES, **own((_PICTURE, *_LAYOUT))),
        # A fan out and its fan in divide lists as they do images.
        share: hidden("ClusterFanOutImage", input=[tiles, 0]),
        refine: hidden(REFINE, tiles=[share, 0], **own(_SAMPLING)),
        done: hidden("ClusterFanInImages", **{CLOSED: [refine, 0]}),
        node_id: {**node, "inputs": {**inputs, RESULTS: [done, 0]}},
    }
