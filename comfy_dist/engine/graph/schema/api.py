"""ComfyAPI: what running nodes tell ComfyUI, for async nodes and for others."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from comfy_dist.engine.graph import running
from comfy_dist.nodes.core.pictures import to_pictures

#: The longest side of a preview, as ComfyUI's --preview-size.
_PREVIEW_SIZE = 512


class ComfyAPISync:
    """Called directly."""

    class Execution:
        def set_progress(
            self,
            value: float,
            max_value: float,
            node_id: str | None = None,
            preview_image: Image.Image | torch.Tensor | None = None,
            ignore_size_limit: bool = False,
        ) -> None:
            """How far a node is, the one that calls if none is named.

            `preview_image` is a picture, or images [B, H, W, C] or [H, W, C] of which the first is shown. Raises
            ValueError outside of a node, InterruptProcessingException when the prompt is interrupted.
            """
            if node_id is None and running.latest_node() is None:
                raise ValueError("No node runs here whose progress this could be; name it by node_id.")
            running.report_progress(value, max_value, _preview(preview_image, ignore_size_limit), node_id)

    def __init__(self) -> None:
        self.execution = self.Execution()


class ComfyAPI:
    """The same, awaited."""

    class Execution:
        async def set_progress(self, value: float, max_value: float, *args: Any, **more: Any) -> None:
            """As ComfyAPISync's."""
            ComfyAPISync.Execution().set_progress(value, max_value, *args, **more)

    def __init__(self) -> None:
        self.execution = self.Execution()


def _preview(
    picture: Image.Image | torch.Tensor | None, full_size: bool
) -> tuple[str, Image.Image, int | None] | None:
    if picture is None:
        return None
    if isinstance(picture, torch.Tensor):
        picture = to_pictures(picture if picture.ndim == 4 else picture[None])[0]
    return picture.format or "JPEG", picture, None if full_size else _PREVIEW_SIZE
