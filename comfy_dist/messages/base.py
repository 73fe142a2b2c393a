"""The common base of everything that crosses a wire."""

from __future__ import annotations

import math
import time
from typing import Annotated, Any, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

#: A graph in ComfyUI's API format: {node_id: {"class_type": str, "inputs": {...}}}.
Prompt: TypeAlias = dict[str, Any]


# What comes over a wire may be a stranger's. Bounds hold off what SQLite, queue names or logs could not take.

#: Bytes of an id in UTF-8: a part of queue names, which have 255 at most.
MAX_ID_BYTES = 200
#: The same of a worker's, which stands behind the cluster's name (64) and `.worker.`.
MAX_WORKER_BYTES = 150


def _printable(text: str, most: int) -> str:
    if not text or not text.isprintable() or len(text.encode()) > most:
        raise ValueError(f"should be a printable text of 1 to {most} bytes")
    return text


def _number(value: float) -> float:
    if math.isnan(value):
        raise ValueError("should be a number")
    return value


JobId: TypeAlias = Annotated[str, AfterValidator(lambda text: _printable(text, MAX_ID_BYTES))]
#: An id or name of a worker.
WorkerId: TypeAlias = Annotated[str, AfterValidator(lambda text: _printable(text, MAX_WORKER_BYTES))]
#: A count, or a size in bytes, as exact as JSON numbers are everywhere.
Count: TypeAlias = Annotated[int, Field(ge=0, le=2**53)]
Number: TypeAlias = Annotated[float, AfterValidator(_number)]
#: Milliseconds since the epoch.
Time: TypeAlias = Annotated[int, Field(ge=1, le=2**53)]


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
