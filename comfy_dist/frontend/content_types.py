"""The content type of a file, by its name and the same on every machine."""

from __future__ import annotations

import mimetypes

#: What a browser would run, or style a page by, with this origin's rights.
ACTIVE = frozenset(
    {
        "application/javascript",
        "application/xhtml+xml",
        "application/xml",
        "image/svg+xml",
        "text/css",
        "text/html",
        "text/javascript",
        "text/xml",
    }
)
UNKNOWN = "application/octet-stream"

# Python's own table lacks some of these, and where the system has one it may say otherwise (text/plain
# for .js in some Windows registries, with which no page starts).
_types = mimetypes.MimeTypes()
for _suffix, _type in {
    ".avif": "image/avif",
    ".css": "text/css",
    ".flac": "audio/flac",
    ".glb": "model/gltf-binary",
    ".js": "text/javascript",
    ".json": "application/json",
    ".jxl": "image/jxl",
    ".m4a": "audio/mp4",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".wasm": "application/wasm",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
    ".xht": "application/xhtml+xml",
    ".xhtml": "application/xhtml+xml",
}.items():
    _types.add_type(_type, _suffix)


def content_type(name: str) -> str:
    guessed, encoding = _types.guess_type(name)
    return UNKNOWN if guessed is None or encoding else guessed
