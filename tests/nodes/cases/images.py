"""Making, cutting, turning and joining images."""

from __future__ import annotations

from tests.nodes.making import Case, bytes_noise, case, noise

CASES: list[Case] = [
    case("EmptyImage", "black", width=3, height=2, batch_size=1, color=0),
    case("EmptyImage", "batch", width=1, height=4, batch_size=3, color=0x12AB7F),
    case("EmptyImage", "white", width=5, height=1, batch_size=2, color=0xFFFFFF),
    case("ImageInvert", "rgb", image=noise(2, 5, 7, 3)),
    case("ImageInvert", "rgba", image=noise(1, 3, 2, 4)),
    case("ImageInvert", "beyond", image=noise(1, 3, 2, 1, low=-1, high=3)),
    case("ImageBatch", "same-size", exact=True, image1=noise(2, 4, 5, 3), image2=noise(3, 4, 5, 3, seed=1)),
    case("ImageBatch", "other-size", image1=noise(1, 5, 4, 3), image2=noise(2, 7, 9, 3, seed=1)),
    case("ImageBatch", "larger", image1=noise(1, 9, 12, 3), image2=noise(1, 4, 3, 3, seed=1)),
    case("ImageBatch", "rgba", image1=noise(1, 5, 4, 4), image2=noise(1, 3, 3, 4, seed=1)),
    case("ImageBatch", "other-channels", image1=noise(1, 5, 4, 3), image2=noise(1, 5, 4, 4, seed=1)),
    case("ImageFromBatch", "middle", exact=True, image=noise(5, 2, 3, 3), batch_index=1, length=3),
    case("ImageFromBatch", "beyond-the-end", exact=True, image=noise(4, 2, 3, 3), batch_index=9, length=7),
    case("ImageFromBatch", "too-long", exact=True, image=noise(4, 2, 3, 3), batch_index=2, length=4096),
    case("RepeatImageBatch", "once", exact=True, image=noise(2, 2, 3, 3), amount=1),
    case("RepeatImageBatch", "thrice", exact=True, image=noise(2, 2, 3, 4), amount=3),
    case("RebatchImages", "smaller", exact=True, images=[noise(5, 2, 3, 3)], batch_size=[2]),
    case(
        "RebatchImages",
        "across",
        exact=True,
        images=[noise(2, 2, 3, 3), noise(1, 2, 3, 3, seed=1), noise(4, 2, 3, 3, seed=2)],
        batch_size=[3],
    ),
    case("RebatchImages", "one-batch", exact=True, images=[noise(2, 2, 3, 3)] * 2, batch_size=[4096]),
    case("RebatchImages", "other-sizes", images=[noise(1, 2, 3, 3), noise(1, 3, 3, 3, seed=1)], batch_size=[2]),
    case(
        "RebatchImages",
        "other-sizes-apart",
        exact=True,
        images=[noise(1, 2, 3, 3), noise(1, 3, 3, 3, seed=1)],
        batch_size=[1],
    ),
    case("ImageCrop", "inside", exact=True, image=noise(2, 6, 7, 3), width=3, height=2, x=1, y=3),
    case("ImageCrop", "over-the-edge", exact=True, image=noise(1, 6, 7, 3), width=512, height=4, x=5, y=4),
    case("ImageCrop", "beyond", exact=True, image=noise(1, 6, 7, 4), width=3, height=3, x=99, y=16384),
    *(
        case("ImageFlip", method[0], exact=True, image=noise(2, 3, 4, 3), flip_method=method)
        for method in ("x-axis: vertically", "y-axis: horizontally")
    ),
    *(
        case("ImageRotate", rotation.split()[0], exact=True, image=noise(2, 3, 4, channels), rotation=rotation)
        for rotation, channels in (("none", 3), ("90 degrees", 3), ("180 degrees", 1), ("270 degrees", 4))
    ),
    case("GetImageSize", "rgb", image=noise(3, 5, 7, 3)),
    *(
        case(
            "ImagePadForOutpaint",
            label,
            image=noise(batch, height, width, 3),
            left=left,
            top=top,
            right=right,
            bottom=bottom,
            feathering=feathering,
        )
        for label, (batch, height, width), (left, top, right, bottom), feathering in (
            ("nowhere", (1, 9, 11), (0, 0, 0, 0), 3),
            ("left", (2, 9, 11), (8, 0, 0, 0), 3),
            ("top", (1, 9, 11), (0, 8, 0, 0), 4),
            ("right", (1, 9, 11), (0, 0, 8, 0), 1),
            ("bottom", (1, 9, 11), (0, 0, 0, 8), 4),
            ("around", (1, 15, 12), (8, 16, 1, 2), 5),
            ("across", (1, 15, 12), (3, 0, 2, 0), 5),
            ("too-soft", (1, 9, 11), (8, 8, 8, 8), 5),
            ("default", (1, 9, 11), (8, 8, 0, 0), 40),
            ("hard", (1, 4, 3), (1, 2, 3, 4), 0),
        )
    ),
    case(
        "ImagePadForOutpaint",
        "rgba",
        image=noise(1, 5, 5, 4),
        left=8,
        top=0,
        right=0,
        bottom=0,
        feathering=2,
    ),
    *(
        case("ImageAddNoise", label, image=noise(batch, 5, 4, channels), seed=seed, strength=strength)
        for label, batch, channels, seed, strength in (
            ("default", 1, 3, 0, 0.5),
            ("full", 2, 3, 0xFFFFFFFFFFFFFFFF, 1.0),
            ("rgba", 1, 4, 42, 0.25),
            ("none", 1, 3, 7, 0.0),
        )
    ),
    *(
        case(
            "ImageStitch",
            f"{direction}-{label}",
            image1=first,
            image2=second,
            direction=direction,
            match_image_size=match,
            spacing_width=spacing,
            spacing_color=color,
        )
        for direction in ("right", "down", "left", "up")
        for label, first, second, match, spacing, color in (
            ("matched", bytes_noise(1, 6, 5, 3), bytes_noise(1, 4, 9, 3, seed=1), True, 0, "white"),
            ("apart", bytes_noise(2, 6, 5, 3), bytes_noise(1, 9, 8, 3, seed=1), False, 3, "red"),
            ("white", bytes_noise(1, 7, 8, 3), bytes_noise(3, 4, 5, 3, seed=1), False, 4, "white"),
            ("rgba", bytes_noise(1, 6, 5, 4), bytes_noise(2, 3, 8, 3, seed=1), True, 5, "blue"),
            ("to-rgba", bytes_noise(1, 6, 5, 3), bytes_noise(1, 3, 2, 4, seed=1), False, 2, "black"),
            ("grey", bytes_noise(1, 3, 4, 1), bytes_noise(1, 5, 2, 1, seed=1), False, 2, "green"),
        )
    ),
    case(
        "ImageStitch",
        "alone",
        exact=True,
        image1=noise(1, 3, 4, 3),
        direction="right",
        match_image_size=True,
        spacing_width=8,
        spacing_color="white",
    ),
]
