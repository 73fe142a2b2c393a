"""The hidden nodes of a planned tiled upscale (comfy_dist/calls/tiling.py): its tiles, and some of them refined.

A tile is {"number", "rows", "columns", "kept", "of", "pixels"}: what of the picture's sides [H, W] it is made of
and what of that is kept, each [start, stop], and its pixels [B, h, w, C], a view of the picture. Each is made of
the picture as it came, not of what became of its neighbours, so it is the same whoever refines it, and when.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from comfy_dist.calls.classes import REFINE, TILES
from comfy_dist.nodes.cluster.inputs import ANY, Inputs, whole
from comfy_dist.nodes.core.inputs import UnusableInput, number
from comfy_dist.nodes.distributed.refining import Refiner, refiner
from comfy_dist.nodes.distributed.tile_conditioning import View
from comfy_dist.nodes.distributed.tile_layout import Span, TileLayout

#: The smallest side of a tile.
_LEAST = 64


def layout_inputs() -> Inputs:
    """What says where tiles lie."""
    return {
        "tile_width": ("INT", {"default": 512, "min": _LEAST, "max": 2048, "step": 8}),
        "tile_height": ("INT", {"default": 512, "min": _LEAST, "max": 2048, "step": 8}),
        "padding": ("INT", {"default": 32, "min": 0, "max": 256, "step": 8}),
        "mask_blur": whole(8, 0, 256),
        "force_uniform_tiles": ("BOOLEAN", {"default": True}),
    }


def sampling_inputs() -> Inputs:
    """What says how tiles are refined."""
    return {
        "model": ("MODEL", {"lazy": True}),
        "positive": ("CONDITIONING", {"lazy": True}),
        "negative": ("CONDITIONING", {"lazy": True}),
        "vae": ("VAE", {"lazy": True}),
        "seed": ("INT", {"default": 0, "min": 0, "max": 2**64 - 1}),
        "steps": whole(20, 1, 10_000),
        "cfg": number(8.0, 0.0, 100.0),
        "sampler_name": (_names("SAMPLERS"),),
        "scheduler": (_names("SCHEDULERS"),),
        "denoise": number(0.5, 0.0, 1.0),
        "tiled_decode": ("BOOLEAN", {"default": False}),
    }


class Tiles:
    """All tiles of a picture, in reading order."""

    CATEGORY = "Distributed/hidden"
    DEPRECATED = True
    INPUT_IS_LIST = True
    RETURN_TYPES = (ANY,)
    FUNCTION = "cut"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"upscaled_image": ("IMAGE",), **layout_inputs()}}

    def cut(self, **inputs: list[Any]) -> tuple[list[dict[str, Any]]]:
        """Raises UnusableInput."""
        given = _only(inputs)
        picture = given["upscaled_image"]
        return (tiles_of(picture, layout_of(picture, given)),)


class RefineTiles:
    """What is kept of some tiles, each refined."""

    CATEGORY = "Distributed/hidden"
    DEPRECATED = True
    INPUT_IS_LIST = True
    RETURN_TYPES = (ANY,)
    FUNCTION = "refine"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"tiles": (ANY,), **without_lazy(sampling_inputs())}}

    def refine(self, **inputs: list[Any]) -> tuple[list[torch.Tensor]]:
        """[B, h, w, C] of each. Raises UnusableInput, NoSampler, UnusableTile."""
        given = _only(inputs)
        return (refined(given["tiles"], given),)


def without_lazy(inputs: Inputs) -> Inputs:
    return {name: (kind, *({**each, "lazy": False} for each in more)) for name, (kind, *more) in inputs.items()}


def _only(inputs: Mapping[str, list[Any]]) -> dict[str, Any]:
    """The one value of each input. Raises UnusableInput."""
    for name, values in inputs.items():
        if len(values) != 1:
            raise UnusableInput(
                f"One batch of pictures is refined at a time, with one {name}; it was given a list of "
                f"{len(values)}. Make one batch of them (Rebatch Images), or give one value."
            )
    return {name: values[0] for name, values in inputs.items()}


def layout_of(picture: Any, given: Mapping[str, Any]) -> TileLayout:
    """`picture` is [B, H, W, C]. Raises UnusableInput: what a link brings nobody else has looked at."""
    if not isinstance(picture, torch.Tensor) or picture.ndim != 4:
        this = list(picture.shape) if isinstance(picture, torch.Tensor) else type(picture).__name__
        raise UnusableInput(f"A picture to refine is a tensor [B, H, W, C]; this is {this}.")
    sizes = {name: int(given[name]) for name in ("tile_width", "tile_height", "padding", "mask_blur")}
    for name, size in sizes.items():
        if size < (least := _LEAST if name.startswith("tile") else 0):
            raise UnusableInput(f"{name} is {size} pixels; give {least} or more.")
    height, width = picture.shape[1:3]
    tile = (sizes["tile_height"], sizes["tile_width"])
    uniform = bool(given["force_uniform_tiles"])
    return TileLayout.of((height, width), tile, sizes["padding"], sizes["mask_blur"], uniform)


def tiles_of(picture: torch.Tensor, layout: TileLayout) -> list[dict[str, Any]]:
    """None of a batch without pixels."""
    if not picture.numel():
        return []
    return [
        {
            "number": tile.number,
            "rows": list(tile.row.window),
            "columns": list(tile.column.window),
            "kept": [list(tile.row.kept), list(tile.column.kept)],
            "of": list(picture.shape[1:3]),
            "pixels": picture[:, slice(*tile.row.window), slice(*tile.column.window)],
        }
        for tile in layout.tiles
    ]


def refined(tiles: Sequence[Mapping[str, Any]], given: Mapping[str, Any]) -> list[torch.Tensor]:
    """What is kept of each tile, refined. `given` are `sampling_inputs`. Raises NoSampler, UnusableTile."""
    return [_refined(tile, refiner(), given) for tile in tiles]


def _refined(tile: Mapping[str, Any], by: Refiner, given: Mapping[str, Any]) -> torch.Tensor:
    rows, columns = _span(tile["rows"]), _span(tile["columns"])
    height, width = tile["of"]
    image = by.refine(tile["pixels"], View(rows, columns, (height, width)), given)
    (top, bottom), (left, right) = tile["kept"]
    # A copy: a view would keep what is not kept of it in memory, and be sent in pieces.
    kept = image[:, top - rows[0] : bottom - rows[0], left - columns[0] : right - columns[0]]
    return kept.clone(memory_format=torch.contiguous_format)


def _span(pair: Sequence[int]) -> Span:
    start, stop = pair
    return start, stop


def _names(of: str) -> list[str]:
    """The samplers or schedulers of this engine; none outside of one."""
    try:
        return list(getattr(importlib.import_module("comfy.samplers").KSampler, of))
    except ModuleNotFoundError:
        return []


HIDDEN: Mapping[str, type] = {TILES: Tiles, REFINE: RefineTiles}
