"""ComfyUI's binary websocket frames: pictures and texts of running nodes."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from comfy_dist.engine.protocol import NodeText, Preview

_U32, _TWO_U32 = struct.Struct(">I"), struct.Struct(">II")
_PLAIN, _TEXT, _WITH_METADATA = 1, 3, 4
_FORMATS = {1: "image/jpeg", 2: "image/png"}


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded image and what is known of it; `metadata` is empty for one that came without."""

    metadata: dict[str, Any]
    image: bytes

    def preview(self, prompt_id: str, node: str | None) -> Preview:
        """As the engine's preview of `prompt_id`; `node` is who is taken for its author where it has none."""
        known = {"node_id": node, "display_node_id": node, "parent_node_id": None, "real_node_id": node}
        metadata = known | self.metadata | {"prompt_id": prompt_id}
        header = json.dumps(metadata).encode()
        shown = metadata["display_node_id"] or metadata["node_id"]
        return Preview(str(shown or ""), _U32.pack(len(header)) + header + self.image)


def picture(frame: bytes) -> Picture | None:
    """The picture in a binary frame, big-endian: u32 event; then u32 format and the image, or u32 length, JSON
    metadata and the image. None for other frames, and broken ones.
    """
    event, number, rest = _parts(frame)
    if event == _PLAIN:
        return Picture({"image_type": _FORMATS.get(number, "image/jpeg")}, rest)
    if event != _WITH_METADATA or number > len(rest):
        return None
    try:
        metadata = from_json(rest[:number])
    except ValueError:
        return None
    return Picture(metadata, rest[number:]) if isinstance(metadata, dict) else None


def node_text(frame: bytes) -> NodeText | None:
    """The text in a binary frame: u32 3, u32 length, the node's id, text. None for others, and broken ones."""
    event, length, rest = _parts(frame)
    if event != _TEXT or length > len(rest):
        return None
    try:
        return NodeText(rest[:length].decode(), rest[length:].decode())
    except UnicodeDecodeError:
        return None


def _parts(frame: bytes) -> tuple[int, int, bytes]:
    """The two numbers that a frame begins with, and what follows; event 0, which is none, for a short one."""
    if len(frame) < _TWO_U32.size:
        return 0, 0, b""
    event, number = _TWO_U32.unpack_from(frame)
    return event, number, frame[_TWO_U32.size :]
