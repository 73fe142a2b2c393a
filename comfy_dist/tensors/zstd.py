"""zstd, where this process has it: Python's own from 3.14 on, its backport before that.

A stock ComfyUI has neither of its own accord. https://datatracker.ietf.org/doc/html/rfc8878
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

#: Twenty times as fast as zlib's fastest level, and as small.
_LEVEL = 1
#: Largest window of what is read, as a power of two: pieces are no larger, and nobody is to make this process set
#: aside more.
_WINDOW = 22

_zstd: Any
try:
    _zstd = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
except ImportError:
    _zstd = None

#: Whether there is one.
AVAILABLE = _zstd is not None


class Unreadable(ValueError):
    """Bytes that are not what `compress` makes."""


def compress(data: memoryview) -> bytes:
    """One frame."""
    return bytes(_zstd.compress(data, _LEVEL))


def decompress(data: bytes | bytearray | memoryview, most: int) -> bytes:
    """At most so many bytes of a frame. Raises Unreadable."""
    if not AVAILABLE:
        raise Unreadable("this process has no zstd")
    reader = _zstd.ZstdDecompressor(options={_zstd.DecompressionParameter.window_log_max: _WINDOW})
    try:
        return bytes(reader.decompress(data, most))
    except _zstd.ZstdError as error:
        raise Unreadable(str(error)) from None
