"""Resizing by every method."""

from __future__ import annotations

from tests.nodes.making import Case, bytes_noise, case, noise

METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")

CASES: list[Case] = [
    *(
        case(
            "ImageScale",
            f"{method}-{crop}-{label}",
            exact=method in ("nearest-exact", "lanczos"),
            image=image,
            upscale_method=method,
            width=width,
            height=height,
            crop=crop,
        )
        for method in METHODS
        for crop in ("disabled", "center")
        for label, image, width, height in (
            ("up", bytes_noise(2, 5, 7, 3), 12, 11),
            ("down", bytes_noise(1, 13, 11, 3), 4, 5),
            ("wide", bytes_noise(1, 9, 3, 4), 13, 2),
            ("height-follows", bytes_noise(1, 5, 7, 3), 10, 0),
            ("width-follows", bytes_noise(1, 7, 3, 3), 0, 1),
            ("to-a-pixel", bytes_noise(1, 6, 6, 3), 1, 1),
        )
    ),
    case(
        "ImageScale",
        "nowhere",
        exact=True,
        image=bytes_noise(1, 5, 7, 3),
        upscale_method="area",
        width=0,
        height=0,
        crop="center",
    ),
    *(
        case(
            "ImageScaleBy",
            f"{method}-{scale_by}",
            exact=method in ("nearest-exact", "lanczos"),
            image=bytes_noise(1, 7, 9, 3),
            upscale_method=method,
            scale_by=scale_by,
        )
        for method in METHODS
        for scale_by in (0.5, 1.0, 1.75)
    ),
    case("ImageScaleBy", "to-nothing", image=bytes_noise(1, 7, 9, 3), upscale_method="bilinear", scale_by=0.01),
    *(
        case(
            "ImageScaleToTotalPixels",
            f"{method}-{megapixels}",
            image=bytes_noise(1, *size, 1),
            upscale_method=method,
            megapixels=megapixels,
        )
        # The least that the node takes is a hundredth of a megapixel.
        for method, size, megapixels in (
            ("nearest-exact", (7, 9), 0.01),
            ("bilinear", (120, 1), 0.01),
            ("area", (130, 110), 0.01),
        )
    ),
    *(
        case(
            "ImageScaleToMaxDimension",
            f"{method}-{label}",
            exact=method in ("nearest-exact", "lanczos"),
            image=bytes_noise(2, *size, 3),
            upscale_method=method,
            largest_size=largest,
        )
        for method in ("area", "lanczos", "bilinear", "nearest-exact", "bicubic")
        for label, size, largest in (
            ("tall", (11, 5), 8),
            ("wide", (5, 11), 17),
            ("square", (6, 6), 9),
        )
    ),
    case(
        "ImageScaleToMaxDimension",
        "nothing",
        image=bytes_noise(1, 5, 5, 3),
        upscale_method="bilinear",
        largest_size=0,
    ),
    *(
        case(
            "ResizeAndPadImage",
            f"{method}-{color}-{label}",
            exact=method in ("nearest-exact", "lanczos"),
            image=bytes_noise(1, *size),
            target_width=width,
            target_height=height,
            padding_color=color,
            interpolation=method,
        )
        for method in ("area", "bicubic", "nearest-exact", "bilinear", "lanczos")
        for color, label, size, width, height in (
            ("white", "wider", (7, 5, 3), 13, 10),
            ("black", "taller", (5, 8, 3), 5, 12),
            ("black", "rgba", (9, 9, 4), 4, 6),
        )
    ),
    case(
        "ResizeAndPadImage",
        "to-nothing",
        image=bytes_noise(1, 2, 90, 3),
        target_width=5,
        target_height=5,
        padding_color="white",
        interpolation="bilinear",
    ),
    # Of one colour: each result has a megapixel.
    *(
        case("FluxKontextImageScale", f"{height}-{width}", exact=True, image=noise(1, height, width, 3) * 0 + 0.3)
        for height, width in ((3, 5), (9, 1))
    ),
]
