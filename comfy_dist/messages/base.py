"""The common base of everything that crosses a wire."""

from __future__ import annotations

import time
from typing import Any, Self, TypeAlias

from pydantic import BaseModel, ConfigDict

#: A graph in ComfyUI's API format: {node_id: {"class_type": str, "inputs": {...}}}.
Prompt: TypeAlias = dict[str, Any]


def now_ms() -> int:
    """Milliseconds since the epoch: the unit of every timestamp in messages, as in ComfyUI's events."""
    return time.time_ns() // 1_000_000


class Message(BaseModel):
    """Frozen plain data, JSON on the wire.

    Unknown keys are ignored, so that old and new versions can stand beside each other.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="constants", hide_input_in_errors=True)

    def to_bytes(self) -> bytes:
        return self.__pydantic_serializer__.to_json(self, exclude_none=True)

    @classmethod
    def from_bytes(cls, body: bytes) -> Self:
        return cls.model_validate_json(body)
