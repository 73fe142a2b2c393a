"""Several progress messages as the body of one: a running prompt sends them in bursts.

Each is u32 length of a JSON header, the header, u32 length of the body, the body (big-endian).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from pydantic_core import from_json, to_json

from comfy_dist.messages import Progress

CONTENT_TYPE = "application/x-comfy-dist-progress"
_LENGTH = struct.Struct(">I")


def pack(batch: Sequence[Progress]) -> bytes:
    """The messages in their order."""
    parts: list[bytes] = []
    for progress in batch:
        header = to_json(progress.model_dump(exclude={"body"}, exclude_none=True))
        parts += (_LENGTH.pack(len(header)), header, _LENGTH.pack(len(progress.body)), progress.body)
    return b"".join(parts)


def unpack(body: bytes) -> list[Progress]:
    """Raises ValueError where the body is not what pack() makes."""
    pieces = list(_pieces(body))
    if len(pieces) % 2:
        raise ValueError("a header without a body")
    batch = []
    for header, piece in zip(pieces[::2], pieces[1::2], strict=True):
        fields = from_json(header)
        if not isinstance(fields, dict):
            raise ValueError("a header that is no object")
        batch.append(Progress.model_validate({"client_id": None, **fields, "body": piece}))
    return batch


def _pieces(body: bytes) -> Iterator[bytes]:
    offset = 0
    while offset < len(body):
        if offset + 4 > len(body):
            raise ValueError("cut off within a length")
        (length,) = _LENGTH.unpack_from(body, offset)
        offset += 4
        if offset + length > len(body):
            raise ValueError("cut off within a piece")
        yield body[offset : offset + length]
        offset += length
