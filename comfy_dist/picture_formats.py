"""Which formats of pictures are read."""

from __future__ import annotations

#: Pillow has Ghostscript decode these, a program, where it is installed: whoever uploads one could make it run.
_BY_OTHER_PROGRAMS = frozenset({"EPS"})


def readable_formats() -> list[str]:
    """Pillow's names of the formats that Pillow itself decodes, as Image.open takes them."""
    from PIL import Image  # here: a frontend does without Pillow

    Image.init()
    return [name for name in Image.ID if name not in _BY_OTHER_PROGRAMS]
