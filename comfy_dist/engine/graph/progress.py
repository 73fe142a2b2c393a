"""The progress of a prompt's nodes, and the events that tell of it."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from comfy_dist.engine.graph.dynamic_prompt import DynamicPrompt

if TYPE_CHECKING:
    from PIL.Image import Image

    #: What a sampler hands to its progress bar: format, picture, longest side.
    Preview: TypeAlias = tuple[str, Image, int | None]

#: progress_state tells of all nodes so far, so its size grows with the graph and a prompt's events with its
#: square. It tells of this many finished ones, the latest, and of all that run.
FINISHED_SHOWN = 32

SendEvent: TypeAlias = Callable[[str, dict[str, Any]], None]
SendPreview: TypeAlias = Callable[[str, bytes], None]


class NodeProgress:
    """Which nodes run and how far they are."""

    def __init__(
        self, prompt_id: str, prompt: DynamicPrompt, send_event: SendEvent, send_preview: SendPreview
    ) -> None:
        self._prompt_id = prompt_id
        self._prompt = prompt
        self._send_event = send_event
        self._send_preview = send_preview
        self._nodes: dict[str, dict[str, Any]] = {}
        self._finished: dict[str, None] = {}

    def start(self, node_id: str) -> None:
        self._set(node_id, "running", 0.0, 1.0)

    def update(self, node_id: str, value: float, maximum: float, preview: Preview | None = None) -> None:
        """A node is at `value` of `maximum`. Sends progress_state, the preview, and progress."""
        self._set(node_id, "running", value, maximum)
        if preview is not None:
            state = self._nodes[node_id]
            self._send_preview(state["display_node_id"], encode_preview(preview, state))
        event = {"value": value, "max": maximum, "prompt_id": self._prompt_id, "node": node_id}
        self._send_event("progress", event)

    def finish(self, node_id: str) -> None:
        maximum = self._nodes[node_id]["max"] if node_id in self._nodes else 1
        self._set(node_id, "finished", maximum, maximum)

    def _set(self, node_id: str, state: str, value: float, maximum: float) -> None:
        entry = self._nodes.get(node_id)
        if entry is None:
            prompt = self._prompt
            entry = self._nodes[node_id] = {
                "value": value,
                "max": maximum,
                "state": state,
                "node_id": node_id,
                "prompt_id": self._prompt_id,
                "display_node_id": prompt.get_display_node_id(node_id),
                "parent_node_id": prompt.get_parent_node_id(node_id),
                "real_node_id": prompt.get_real_node_id(node_id),
            }
        else:
            entry["value"], entry["max"], entry["state"] = value, maximum, state
        if state == "finished":
            self._finished[node_id] = None
            if len(self._finished) > FINISHED_SHOWN:
                oldest = next(iter(self._finished))
                del self._finished[oldest]
                del self._nodes[oldest]
        else:
            self._finished.pop(node_id, None)
        self._send_event("progress_state", {"prompt_id": self._prompt_id, "nodes": self._nodes})


def encode_preview(preview: Preview, state: dict[str, Any]) -> bytes:
    """ComfyUI's binary event 4 without its type: u32 length, JSON metadata, JPEG or PNG."""
    from PIL import Image, ImageOps

    kind, picture, longest = preview
    if longest is not None:
        picture = ImageOps.contain(picture, (longest, longest), Image.Resampling.BILINEAR)
    encoded = io.BytesIO()
    if kind == "JPEG" and picture.mode not in ("RGB", "L"):
        picture = picture.convert("RGB")
    picture.save(encoded, format=kind, quality=95, compress_level=1)
    metadata = {
        "node_id": state["node_id"],
        "prompt_id": state["prompt_id"],
        "display_node_id": state["display_node_id"],
        "parent_node_id": state["parent_node_id"],
        "real_node_id": state["real_node_id"],
        "image_type": "image/png" if kind == "PNG" else "image/jpeg",
    }
    head = json.dumps(metadata).encode()
    return struct.pack(">I", len(head)) + head + encoded.getvalue()
