"""Frames between a worker and an engine child: u32 header length, u32 body length, JSON header, raw body."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

LENGTHS = struct.Struct("!II")


def encode_json(value: Any) -> bytes:
    """JSON of whatever a node returned; what JSON has no form for becomes its text."""
    try:
        return to_json(value, inf_nan_mode="constants", fallback=str)
    except (PydanticSerializationError, ValueError, UnicodeError):
        # Keys that are no strings, or lone surrogates, which no reader of JSON need accept.
        return json.dumps(value, default=str, skipkeys=True, ensure_ascii=False).encode("utf-8", "replace")


def pack(header: Mapping[str, Any], body: bytes = b"") -> bytes:
    head = encode_json(header)
    return LENGTHS.pack(len(head), len(body)) + head + body


class Decoder:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
        """The frames that `data` completes. Exhaust it before feeding more."""
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= LENGTHS.size:
            head_length, body_length = LENGTHS.unpack_from(self._buffer, start)
            head = start + LENGTHS.size
            body = head + head_length
            end = body + body_length
            if len(self._buffer) < end:
                break
            yield from_json(self._buffer[head:body]), bytes(self._buffer[body:end])
            start = end
        del self._buffer[:start]
