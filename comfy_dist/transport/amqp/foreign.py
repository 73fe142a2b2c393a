"""Properties of other people's messages that cannot be decoded: a date millions of years ahead, an unknown type.

The AMQP library takes them for a broken connection. Such a message in a queue would end the connection of one
worker after another, for ever. Here it is delivered, with properties by which `unpack` refuses it.
"""

from __future__ import annotations

from aiormq import spec
from pamqp.header import ContentHeader

#: In place of the content encoding.
UNDECODABLE = "properties that cannot be decoded"

_strict = ContentHeader.unmarshal


def _unmarshal(self: ContentHeader, data: bytes) -> None:
    try:
        _strict(self, data)
    except Exception:  # noqa: BLE001 - whatever somebody sent
        # The size of the body is read before the properties are, so the connection goes on.
        self.properties = spec.Basic.Properties(content_encoding=UNDECODABLE)


def tolerate() -> None:
    """For all connections of this process."""
    ContentHeader.unmarshal = _unmarshal  # type: ignore[method-assign]
