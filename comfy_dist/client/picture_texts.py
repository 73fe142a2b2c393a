"""Texts that pictures carry: ComfyUI puts prompt and workflow into PNGs, animated ones too, and WebPs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_PNG = b"\x89PNG\r\n\x1a\n"
#: A text that unpacks to more than this is no workflow.
_MAX_TEXT = 64 * 2**20
#: Exif's type of texts.
_ASCII = 2


def picture_texts(content: bytes) -> dict[str, bytes] | None:
    """{key: UTF-8} of a PNG or WebP, however broken; None for any other file."""
    if content.startswith(_PNG):
        return dict(_of_png(content))
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return dict(_of_webp(content))
    return None


def _of_png(png: bytes) -> Iterator[tuple[str, bytes]]:
    """Its text chunks of all three kinds, and those that animations have."""
    at = len(_PNG)
    while at + 8 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        data = png[at + 8 : at + 8 + length]
        at += length + 12
        key, _, rest = data.partition(b"\0")
        match kind:
            case b"tEXt" | b"comf":
                yield key.decode("latin-1"), rest.decode("latin-1").encode()
            case b"zTXt":
                yield key.decode("latin-1"), _unpacked(rest[1:]).decode("latin-1").encode()
            case b"iTXt":
                packed, (*_, text) = rest[:1] == b"\1", rest[2:].split(b"\0", 2)
                yield key.decode("latin-1"), _unpacked(text) if packed else text


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _MAX_TEXT)
    except zlib.error:
        return b""


def _of_webp(webp: bytes) -> Iterator[tuple[str, bytes]]:
    """Its Exif texts that begin with a key and a colon."""
    at = 12
    while at + 8 <= len(webp):
        kind, length = struct.unpack_from("<4sI", webp, at)
        if kind == b"EXIF":
            for text in _exif_texts(webp[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0")):
                key, _, rest = text.partition(b":")
                yield key.decode("latin-1"), rest
        # Chunks begin at even places.
        at += 8 + length + length % 2


def _exif_texts(tiff: bytes) -> Iterator[bytes]:
    """The texts of the first directory; of a broken one those before it breaks."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for number in range(entries):
            _, type_, count, place = struct.unpack_from(f"{order}HHII", tiff, directory + 2 + 12 * number)
            # A text of up to four bytes stands in the entry itself; no JSON of a workflow does.
            if type_ == _ASCII and count > 4:
                yield tiff[place : place + count].rstrip(b"\0")
    except struct.error:
        return
