"""`comfy.utils`: the progress bar, resizing, tiles and safetensors files."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from comfy_dist.engine.graph.running import report_progress
from comfy_dist.engine.graph.tiles import tile_count, tiled
from comfy_dist.nodes import safetensors
from comfy_dist.nodes.core.bislerp import bislerp
from comfy_dist.nodes.core.resize import common_upscale, lanczos, repeat_to_batch_size

__all__ = ["bislerp", "common_upscale", "lanczos", "repeat_to_batch_size"]

PROGRESS_BAR_ENABLED = True
#: (value, total, preview, node_id): told of progress in place of the clients.
PROGRESS_BAR_HOOK: Callable[..., Any] | None = None


def set_progress_bar_enabled(enabled: bool) -> None:
    global PROGRESS_BAR_ENABLED
    PROGRESS_BAR_ENABLED = enabled


def set_progress_bar_global_hook(function: Callable[..., Any] | None) -> None:
    global PROGRESS_BAR_HOOK
    PROGRESS_BAR_HOOK = function


class ProgressBar:
    """Tells clients how far the node that makes it is. Updating raises when the prompt is interrupted."""

    def __init__(self, total: float, node_id: str | None = None) -> None:
        self.total = total
        self.current: float = 0
        self.node_id = node_id
        self.hook = PROGRESS_BAR_HOOK

    def update_absolute(self, value: float, total: float | None = None, preview: Any = None) -> None:
        """Progress is `value`; `preview` is (format, PIL image, longest side)."""
        if total is not None:
            self.total = total
        self.current = min(value, self.total)
        if self.hook is not None:
            self.hook(self.current, self.total, preview, node_id=self.node_id)
        else:
            report_progress(self.current, self.total, preview, self.node_id)

    def update(self, value: float) -> None:
        self.update_absolute(self.current + value)


def load_torch_file(
    ckpt: str | os.PathLike[str],
    safe_load: bool = False,
    device: torch.device | None = None,
    return_metadata: bool = False,
) -> Any:
    """The tensors of a safetensors file by name, and its metadata if asked for.

    Files of other kinds are read where they hold nothing but tensors, as pickles can hold any code.
    """
    path = Path(ckpt)
    metadata: Mapping[str, str] | None = None
    if path.suffix.lower() in (".safetensors", ".sft"):
        tensors, metadata = safetensors.load(path)
        tensors = {name: tensor.to(device or "cpu") for name, tensor in tensors.items()}
    else:
        loaded = torch.load(path, map_location=device or "cpu", weights_only=True)
        tensors = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    return (tensors, metadata) if return_metadata else tensors


def save_torch_file(
    sd: Mapping[str, torch.Tensor], ckpt: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as a safetensors file."""
    Path(ckpt).write_bytes(safetensors.encode(sd, metadata))


def state_dict_prefix_replace(
    state_dict: dict[str, Any], replace_prefix: Mapping[str, str], filter_keys: bool = False
) -> dict[str, Any]:
    """Rename the keys that begin with a prefix; those that do not are left out if `filter_keys`."""
    result = {} if filter_keys else state_dict
    for old, new in replace_prefix.items():
        for key in [key for key in state_dict if key.startswith(old)]:
            result[new + key[len(old) :]] = state_dict.pop(key)
    return result


def reshape_mask(input_mask: torch.Tensor, output_shape: tuple[int, ...]) -> torch.Tensor:
    """A mask [B, H, W] or [B, 1, H, W] as [B, C, H, W] of `output_shape`."""
    mask = input_mask.reshape(-1, 1, *input_mask.shape[-2:])
    mask = torch.nn.functional.interpolate(mask, size=output_shape[2:], mode="bilinear")
    return repeat_to_batch_size(mask.expand(-1, output_shape[1], -1, -1), output_shape[0])


def get_attr(obj: Any, attr: str) -> Any:
    """The attribute behind dots: "a.b" is obj.a.b."""
    return functools.reduce(getattr, attr.split("."), obj)


def set_attr(obj: Any, attr: str, value: Any) -> Any:
    """Set the attribute behind dots; returns what it was."""
    *way, name = attr.split(".")
    owner = functools.reduce(getattr, way, obj)
    before = getattr(owner, name)
    setattr(owner, name, value)
    return before


def get_tiled_scale_steps(width: int, height: int, tile_x: int, tile_y: int, overlap: int) -> int:
    """How many tiles `tiled_scale` makes of a picture."""
    return tile_count(width, tile_x, overlap) * tile_count(height, tile_y, overlap)


def tiled_scale(
    samples: torch.Tensor,
    function: Callable[[torch.Tensor], torch.Tensor],
    tile_x: int = 64,
    tile_y: int = 64,
    overlap: int = 8,
    upscale_amount: float = 4,
    out_channels: int = 3,
    output_device: str | torch.device = "cpu",
    pbar: ProgressBar | None = None,
) -> torch.Tensor:
    """`function` of samples [B, C, H, W] tile by tile, each `upscale_amount` larger; overlaps are faded."""
    return tiled(
        samples,
        function,
        (tile_y, tile_x),
        overlap=overlap,
        scale=upscale_amount,
        channels=out_channels,
        device=output_device,
        on_tile=None if pbar is None else lambda: pbar.update(1),
    )
