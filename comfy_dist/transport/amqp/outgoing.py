"""What is published: a body and its AMQP properties; and back, the body of what was received."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from aiormq import spec
from aiormq.abc import DeliveredMessage

#: Bodies above this many bytes travel compressed (RFC 9110's "deflate" is zlib's format).
COMPRESS_ABOVE = 4096
#: Bytes that a body may have when it is decompressed. A prompt has 64 MiB, and numbers may grow in writing.
LARGEST = 256 * 2**20
#: Bytes of AMQP's short strings.
_SHORT = 255
#: AMQP's delivery modes.
TRANSIENT, PERSISTENT = 1, 2


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish."""

    body: bytes
    properties: spec.Basic.Properties


def pack(
    body: bytes,
    *,
    message_id: str | None = None,
    headers: Mapping[str, str] | None = None,
    expiration: float | None = None,
) -> Outgoing:
    """A persistent JSON message with an id, compressed where that pays; `expiration` in seconds."""
    encoding = None
    if len(body) > COMPRESS_ABOVE:
        body, encoding = zlib.compress(body, 1), "deflate"
    return persistent(body, encoding=encoding, message_id=message_id, headers=headers, expiration=expiration)


def persistent(
    body: bytes,
    *,
    encoding: str | None = None,
    message_id: str | None = None,
    headers: Mapping[str, str] | None = None,
    expiration: float | None = None,
) -> Outgoing:
    """A persistent message whose body is encoded already."""
    return Outgoing(
        body,
        spec.Basic.Properties(
            # A stranger's job may have an id that does not fit.
            message_id=message_id if message_id and len(message_id.encode()) <= _SHORT else uuid.uuid4().hex,
            content_type="application/json",
            content_encoding=encoding,
            delivery_mode=PERSISTENT,
            headers=dict(headers) if headers else None,
            expiration=_milliseconds(expiration),
        ),
    )


def transient(
    body: bytes,
    *,
    content_type: str = "application/json",
    reply_to: str | None = None,
    expiration: float | None = None,
) -> Outgoing:
    """A message that need not outlive the broker; `expiration` in seconds."""
    return Outgoing(
        body,
        spec.Basic.Properties(
            content_type=content_type,
            delivery_mode=TRANSIENT,
            reply_to=reply_to,
            expiration=_milliseconds(expiration),
        ),
    )


def _milliseconds(seconds: float | None) -> str | None:
    return None if seconds is None else str(round(seconds * 1000))


def unpack(body: bytes, encoding: str | None) -> bytes:
    """The body, decompressed. Raises ValueError where that fails."""
    if not encoding:
        return body
    if encoding != "deflate":
        raise ValueError(f"its content encoding is {encoding[:40]!r}, not deflate")
    inflating = zlib.decompressobj()
    try:
        inflated = inflating.decompress(body, LARGEST)
    except zlib.error as error:
        raise ValueError(f"a body that is not what its encoding says: {error}") from None
    if not inflating.eof:
        raise ValueError("a body that is cut off, or larger than 256 MiB")
    return inflated


def body_of(message: DeliveredMessage) -> bytes:
    """The same of a message as it was delivered."""
    return unpack(message.body, message.header.properties.content_encoding)
