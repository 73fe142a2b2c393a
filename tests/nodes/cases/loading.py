"""Pictures of `files/`, as images and as masks."""

from __future__ import annotations

from tests.nodes.making import Case, case

FILES = (
    "1.png",
    "L.png",
    "LA.png",
    "P.png",
    "P-transparent.png",
    "RGB.png",
    "RGB.bmp",
    "RGB-one-colour-transparent.png",
    "RGBA.png",
    "CMYK.jpg",
    "I.tiff",
    "F.tiff",
    "turned.jpg",
    "animated.gif",
    "animated.png",
    "animated.webp",
    "pages.tiff",
    "views.jpg",
    "cut-off.jpg",
    "words.png",
)

CASES: list[Case] = [
    *(case("LoadImage", name, image=name) for name in FILES),
    *(
        case("LoadImageMask", f"{name}-{channel}", image=name, channel=channel)
        for name in FILES
        for channel in ("alpha", "red", "green", "blue")
    ),
    *(
        case(
            "LoadImageSetFromFolderNode",
            f"{folder.replace('/', '-')}-{method}",
            folder=folder,
            resize_method=method,
        )
        for folder, method in (
            ("sizes", "None"),
            ("sizes", "Stretch"),
            ("sizes", "Crop"),
            ("sizes", "Pad"),
            ("one-size", "None"),
            ("one-size/deep", "None"),
        )
    ),
]
