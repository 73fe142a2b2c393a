"""What a file is, by its first bytes."""

from __future__ import annotations

from pathlib import PurePosixPath

#: How many first bytes is_image() wants.
HEAD = 32

#: Names that promise a picture which the page and LoadImage will decode.
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"})

#: First bytes of the picture formats in use.
_MAGIC = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF87a",
    b"GIF89a",
    b"BM",
    b"II*\x00",
    b"MM\x00*",
    b"\xff\x0a",
    b"\x00\x00\x00\x0cJXL \r\n\x87\n",
)
_HEIF_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")


def promises_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def is_image(head: bytes) -> bool:
    """Whether a file that starts with `head` is a picture of any format.

    Of any: a WebP saved as .jpg is common on the web, and decoders go by the bytes.
    """
    if head.startswith(_MAGIC):
        return True
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return True
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS
