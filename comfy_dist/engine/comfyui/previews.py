"""ComfyUI's binary websocket frames, as previews that name their node."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from comfy_dist.engine.protocol import Preview

_U32 = struct.Struct(">I")
_PLAIN, _WITH_METADATA = 1, 4
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
    if len(frame) < 2 * _U32.size:
        return None
    (event,), (number,), rest = _U32.unpack_from(frame), _U32.unpack_from(frame, _U32.size), frame[2 * _U32.size :]
    if event == _PLAIN:
        return Picture({"image_type": _FORMATS.get(number, "image/jpeg")}, rest)
    if event != _WITH_METADATA or number > len(rest):
        return None
    try:
        metadata = from_json(rest[:number])
    except ValueError:
        return None
    return Picture(metadata, rest[number:]) if isinstance(metadata, dict) else None
