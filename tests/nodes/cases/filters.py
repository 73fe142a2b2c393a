"""Post-processing: blending, blurring, sharpening, fewer colours, morphology, colour spaces."""

from __future__ import annotations

import numpy as np

from tests.nodes.making import Case, blocks, bytes_noise, case, noise

CASES: list[Case] = [
    *(
        case("ImageBlend", f"{mode}-{label}", image1=first, image2=second, blend_factor=factor, blend_mode=mode)
        for mode in ("normal", "multiply", "screen", "overlay", "soft_light", "difference")
        for label, first, second, factor in (
            ("half", noise(2, 4, 5, 3), noise(2, 4, 5, 3, seed=1), 0.5),
            ("full", noise(1, 4, 5, 3), noise(1, 4, 5, 3, seed=1), 1.0),
            ("none", noise(1, 4, 5, 3), noise(1, 4, 5, 3, seed=1), 0.0),
            ("other-size", noise(1, 7, 5, 3), noise(1, 4, 9, 3, seed=1), 0.8),
        )
    ),
    case(
        "ImageBlend",
        "rgba-second",
        image1=noise(1, 4, 5, 3),
        image2=noise(1, 4, 5, 4, seed=1),
        blend_factor=0.3,
        blend_mode="screen",
    ),
    case(
        "ImageBlend",
        "rgba",
        image1=noise(1, 4, 5, 4),
        image2=noise(1, 4, 5, 4, seed=1),
        blend_factor=0.3,
        blend_mode="overlay",
    ),
    case(
        "ImageBlend",
        "batches",
        image1=noise(3, 4, 5, 3),
        image2=noise(1, 6, 5, 3, seed=1),
        blend_factor=0.3,
        blend_mode="multiply",
    ),
    case(
        "ImageBlend",
        "batches-that-differ",
        image1=noise(3, 4, 5, 3),
        image2=noise(2, 4, 5, 3, seed=1),
        blend_factor=0.3,
        blend_mode="multiply",
    ),
    case(
        "ImageBlend",
        "beyond",
        image1=noise(1, 4, 5, 3, low=-1, high=2),
        image2=noise(1, 4, 5, 3, seed=1, low=-1, high=2),
        blend_factor=0.5,
        blend_mode="difference",
    ),
    *(
        case("ImageBlur", label, image=image, blur_radius=radius, sigma=sigma)
        for label, image, radius, sigma in (
            ("default", noise(1, 5, 7, 3), 1, 1.0),
            ("wide", noise(2, 12, 14, 3), 5, 0.4),
            ("sharp", noise(1, 9, 6, 3), 3, 0.1),
            ("soft", noise(1, 9, 6, 1), 2, 10.0),
            ("rgba", noise(1, 5, 5, 4), 2, 1.0),
            ("large", noise(1, 33, 32, 3), 31, 1.0),
            ("nothing", noise(1, 3, 3, 3), 0, 1.0),
            ("wider-than-the-image", noise(1, 3, 8, 3), 3, 1.0),
        )
    ),
    *(
        case("ImageSharpen", label, image=image, sharpen_radius=radius, sigma=sigma, alpha=alpha)
        for label, image, radius, sigma, alpha in (
            ("default", noise(1, 5, 7, 3), 1, 1.0, 1.0),
            ("strong", noise(2, 12, 14, 3), 4, 0.5, 5.0),
            ("weak", noise(1, 12, 14, 3), 2, 10.0, 0.01),
            ("none", noise(1, 5, 5, 3), 1, 1.0, 0.0),
            ("rgba", noise(1, 5, 5, 4), 2, 1.0, 0.3),
            ("nothing", noise(1, 3, 3, 3), 0, 1.0, 1.0),
            ("wider-than-the-image", noise(1, 3, 8, 3), 3, 1.0, 1.0),
        )
    ),
    *(
        case("ImageQuantize", f"{dither}-{colors}", exact=True, image=image, colors=colors, dither=dither)
        for dither in ("none", "floyd-steinberg", "bayer-2", "bayer-4", "bayer-8", "bayer-16")
        for colors, image in (
            (1, bytes_noise(1, 4, 5, 3)),
            (2, bytes_noise(2, 9, 13, 3)),
            (16, noise(1, 18, 17, 3)),
            (256, bytes_noise(1, 17, 18, 3)),
        )
    ),
    *(
        case("Morphology", f"{operation}-{label}", image=image, operation=operation, kernel_size=size)
        for operation in ("erode", "dilate", "open", "close", "gradient", "bottom_hat", "top_hat")
        for label, image, size in (
            ("default", noise(2, 7, 9, 3), 3),
            ("even", noise(1, 9, 8, 3), 4),
            ("wide", noise(1, 12, 11, 4), 7),
            ("wider-than-the-image", noise(1, 4, 5, 1), 9),
            ("far-wider", noise(1, 2, 3, 3), 20),
        )
    ),
    *(
        case("Canny", label, exact=True, image=image, low_threshold=low, high_threshold=high)
        for label, image, low, high in (
            ("default", noise(2, 17, 19, 3), 0.4, 0.8),
            ("gentle", noise(1, 32, 30, 3) * 0.2, 0.2, 0.4),
            ("grey", noise(1, 15, 16, 1), 0.5, 0.99),
            ("blocks", np.kron(blocks(1, 6, 7, 3), np.ones((1, 5, 5, 1), np.float32)), 0.4, 0.8),
            ("slope", np.tile(np.linspace(0, 1, 24, dtype=np.float32)[:, None] ** 2, (1, 9, 1, 3)), 0.1, 0.3),
            ("equal-thresholds", noise(1, 12, 12, 3), 0.6, 0.6),
            ("flat", noise(1, 9, 9, 3) * 0 + 0.5, 0.01, 0.02),
            ("crossed-thresholds", noise(1, 9, 9, 3), 0.8, 0.4),
            ("rgba", noise(1, 9, 9, 4), 0.4, 0.8),
            ("too-small", noise(1, 2, 9, 3), 0.4, 0.8),
        )
    ),
    case("ImageRGBToYUV", "rgb", image=noise(2, 4, 5, 3)),
    case("ImageRGBToYUV", "rgba", image=noise(1, 4, 5, 4)),
    case("ImageYUVToRGB", "rgb", Y=noise(2, 4, 5, 3), U=noise(2, 4, 5, 3, seed=1), V=noise(2, 4, 5, 3, seed=2)),
    case("ImageYUVToRGB", "grey", Y=noise(1, 4, 5, 1), U=noise(1, 4, 5, 1, seed=1), V=noise(1, 4, 5, 1, seed=2)),
    case("ImageYUVToRGB", "sizes", Y=noise(1, 4, 5, 3), U=noise(1, 4, 6, 3), V=noise(1, 4, 5, 3)),
]
