"""Masks: making, cutting, growing, joining, and their way to images and back."""

from __future__ import annotations

from tests.nodes.making import Case, blocks, bytes_noise, case, noise

CASES: list[Case] = [
    case("SolidMask", "default", value=1.0, width=4, height=3),
    case("SolidMask", "grey", value=0.37, width=1, height=5),
    case("InvertMask", "batch", mask=noise(2, 4, 5)),
    case("InvertMask", "flat", mask=noise(4, 5)),
    case("CropMask", "inside", exact=True, mask=noise(2, 6, 7), x=1, y=2, width=3, height=2),
    case("CropMask", "over-the-edge", exact=True, mask=noise(1, 6, 7), x=5, y=4, width=512, height=512),
    case("CropMask", "beyond", exact=True, mask=noise(1, 6, 7), x=99, y=0, width=3, height=3),
    case("CropMask", "flat", exact=True, mask=noise(6, 7), x=1, y=1, width=3, height=3),
    *(
        case(
            "MaskComposite",
            f"{operation}-{label}",
            destination=destination,
            source=source,
            x=x,
            y=y,
            operation=operation,
        )
        for operation in ("multiply", "add", "subtract", "and", "or", "xor")
        for label, destination, source, x, y in (
            ("inside", noise(1, 7, 8), noise(1, 3, 4, seed=1), 2, 3),
            ("over-the-edge", noise(2, 5, 6), noise(1, 9, 4, seed=1), 4, 1),
            ("batch", noise(2, 4, 4), noise(2, 4, 4, seed=1), 0, 0),
            ("flat", noise(4, 5), noise(2, 2, seed=1), 1, 1),
            ("halves", noise(1, 2, 5) * 0 + 0.5, noise(1, 2, 5) * 0 + 0.5, 0, 0),
        )
    ),
    case(
        "MaskComposite",
        "beyond",
        destination=noise(1, 4, 5),
        source=noise(1, 2, 2, seed=1),
        x=5,
        y=0,
        operation="add",
    ),
    case(
        "MaskComposite",
        "far-beyond",
        destination=noise(1, 4, 5),
        source=noise(1, 2, 2, seed=1),
        x=50,
        y=40,
        operation="add",
    ),
    case(
        "MaskComposite",
        "batches-that-differ",
        destination=noise(2, 4, 5),
        source=noise(3, 2, 2, seed=1),
        x=0,
        y=0,
        operation="add",
    ),
    *(
        case("FeatherMask", label, mask=mask, left=left, top=top, right=right, bottom=bottom)
        for label, mask, (left, top, right, bottom) in (
            ("nothing", noise(1, 5, 6), (0, 0, 0, 0)),
            ("left", noise(2, 5, 6), (3, 0, 0, 0)),
            ("top", noise(1, 5, 6), (0, 2, 0, 0)),
            ("right", noise(1, 5, 6), (0, 0, 3, 0)),
            ("bottom", noise(1, 5, 6), (0, 0, 0, 4)),
            ("one-each", noise(1, 5, 6), (1, 1, 1, 1)),
            ("overlapping", noise(1, 5, 6), (5, 4, 4, 3)),
            ("all", noise(1, 5, 6), (16384, 16384, 16384, 16384)),
            ("flat", noise(5, 6), (2, 2, 2, 2)),
        )
    ),
    *(
        case("GrowMask", f"{label}-{tapered}", exact=True, mask=mask, expand=expand, tapered_corners=tapered)
        for tapered in (True, False)
        for label, mask, expand in (
            ("nothing", noise(1, 5, 6), 0),
            ("once", blocks(2, 9, 8), 1),
            ("grey", noise(1, 9, 11), 2),
            ("shrink", noise(2, 9, 11), -1),
            ("shrink-far", noise(1, 9, 11, seed=1), -4),
            ("far", noise(1, 7, 9) ** 8, 30),
            ("flat", blocks(6, 7), 2),
            ("beyond", noise(1, 6, 7, low=-2, high=3), 2),
            ("line", noise(1, 1, 9), 2),
        )
    ),
    *(
        case("ThresholdMask", f"{value}", exact=True, mask=bytes_noise(2, 5, 6), value=value)
        for value in (0.0, 0.5, 1.0, 51 / 255)
    ),
    *(
        case("ImageToMask", channel, exact=True, image=noise(2, 4, 5, 4), channel=channel)
        for channel in ("red", "green", "blue", "alpha")
    ),
    case("ImageToMask", "no-alpha", image=noise(1, 4, 5, 3), channel="alpha"),
    case("MaskToImage", "batch", exact=True, mask=noise(3, 4, 5)),
    case("MaskToImage", "flat", exact=True, mask=noise(4, 5)),
    *(
        case("ImageColorToMask", f"{label}", exact=True, image=image, color=color)
        for label, image, color in (
            ("black", blocks(2, 4, 5, 3), 0),
            ("yellow", blocks(1, 8, 8, 3), 0xFFFF00),
            ("beyond", noise(1, 8, 8, 3, low=-9, high=9), 0xFF00FF),
            ("rounded", noise(1, 4, 4, 3) * 0 + 0.4999, 0x7F7F7F),
            ("rgba", blocks(1, 6, 6, 4), 0x0000FF),
        )
    ),
]
