"""Latents: empty ones, other sizes, on one another, reckoned with, changed by operations, from files."""

from __future__ import annotations

import numpy as np

from tests.nodes.making import Case, case, latent, noise

EMPTY = [
    case("EmptyLatentImage", "default", exact=True, width=256, height=128, batch_size=1),
    case("EmptyLatentImage", "odd", exact=True, width=23, height=79, batch_size=3),
    case("EmptySD3LatentImage", "small", exact=True, width=48, height=31, batch_size=2),
    case("EmptyHunyuanImageLatent", "small", exact=True, width=64, height=127, batch_size=2),
    case("EmptyChromaRadianceLatentImage", "small", exact=True, width=16, height=32, batch_size=2),
    case(
        "StableCascade_EmptyLatentImage", "small", exact=True, width=256, height=300, compression=42, batch_size=1
    ),
    case(
        "StableCascade_EmptyLatentImage", "deep", exact=True, width=256, height=256, compression=128, batch_size=2
    ),
    *(
        case(node, f"{length}-frames", exact=True, width=64, height=96, length=length, batch_size=batch)
        for node in (
            "EmptyHunyuanLatentVideo",
            "EmptyMochiLatentVideo",
            "EmptyLTXVLatentVideo",
            "EmptyCosmosLatentVideo",
        )
        for length, batch in ((1, 1), (8, 1), (25, 2))
    ),
    *(
        case(node, f"{seconds}-s", exact=True, seconds=seconds, batch_size=batch)
        for node in ("EmptyLatentAudio", "EmptyAceStepLatentAudio")
        for seconds, batch in ((1.0, 1), (1.1, 2), (47.6, 1))
    ),
    case("EmptyLatentHunyuan3Dv2", "small", exact=True, resolution=3, batch_size=2),
]

#: An image's, a video's, with what nodes hand on.
SAMPLES = latent(2, 2, 12, 9)
MASKED = latent(2, 2, 12, 9, noise_mask=noise(2, 1, 3, 2), batch_index=[5, 3])
VIDEO = latent(1, 2, 2, 10, 12)

#: Spherical interpolation is ill-conditioned in few dimensions, where vectors are often opposite.
DIRECTIONS = latent(2, 4, 9, 8)
METHODS = ("nearest-exact", "bilinear", "area", "bicubic")

RESIZED = [
    *(
        case(
            "LatentUpscale", f"{method}-{crop}-{label}", samples=samples, upscale_method=method, crop=crop, **size
        )
        for method in METHODS
        for crop in ("disabled", "center")
        for label, samples, size in (
            ("up", SAMPLES, {"width": 80, "height": 104}),
            ("down-masked", MASKED, {"width": 64, "height": 72}),
            ("video", VIDEO, {"width": 88, "height": 64}),
        )
    ),
    case(
        "LatentUpscale",
        "bislerp",
        samples=DIRECTIONS,
        upscale_method="bislerp",
        width=80,
        height=96,
        crop="disabled",
    ),
    *(
        case("LatentUpscaleBy", f"bislerp-{scale}", samples=samples, upscale_method="bislerp", scale_by=scale)
        for scale, samples in ((1.3, DIRECTIONS), (0.55, DIRECTIONS), (1.4, latent(1, 4, 2, 5, 4)))
    ),
    case("LatentUpscale", "same", samples=MASKED, upscale_method="area", width=0, height=0, crop="disabled"),
    case("LatentUpscale", "by-width", samples=SAMPLES, upscale_method="area", width=100, height=0, crop="center"),
    case(
        "LatentUpscale", "by-height", samples=SAMPLES, upscale_method="area", width=0, height=120, crop="disabled"
    ),
    case("LatentUpscale", "least", samples=SAMPLES, upscale_method="area", width=8, height=1, crop="disabled"),
    case(
        "LatentUpscale", "least-width", samples=SAMPLES, upscale_method="area", width=8, height=0, crop="disabled"
    ),
    *(
        case("LatentUpscaleBy", f"{method}-{scale}", samples=samples, upscale_method=method, scale_by=scale)
        for method in METHODS
        for scale, samples in ((1.3, SAMPLES), (0.55, MASKED), (1.0, SAMPLES), (0.8, VIDEO))
    ),
    case("LatentUpscaleBy", "nothing-left", samples=SAMPLES, upscale_method="bicubic", scale_by=0.01),
    # Alike, opposite and zero vectors, which the spherical way between them treats apart.
    case(
        "LatentUpscaleBy",
        "bislerp-special",
        samples={"samples": np.repeat(np.array([[[[0.0, 1.0, -1.0, 1.0, 1.0, 0.0]]]], np.float32), 4, 1)},
        upscale_method="bislerp",
        scale_by=2.5,
    ),
    *(
        case("LatentRotate", rotation, exact=True, samples=MASKED, rotation=rotation)
        for rotation in ("none", "90 degrees", "180 degrees", "270 degrees")
    ),
    case("LatentRotate", "video", exact=True, samples=VIDEO, rotation="90 degrees"),
    *(
        case("LatentFlip", f"{method[0]}-{label}", exact=True, samples=samples, flip_method=method)
        for method in ("x-axis: vertically", "y-axis: horizontally")
        for label, samples in (("image", MASKED), ("video", VIDEO))
    ),
    *(
        case("LatentCrop", label, exact=True, samples=samples, width=width, height=height, x=x, y=y)
        for label, samples, width, height, x, y in (
            ("inside", MASKED, 64, 64, 8, 16),
            ("between", SAMPLES, 71, 66, 7, 9),
            ("over-the-edge", SAMPLES, 512, 512, 8, 16),
            ("beyond", SAMPLES, 64, 72, 800, 1600),
            ("smaller-than-the-least", latent(1, 4, 3, 5), 64, 64, 0, 0),
            ("smaller-and-beyond", latent(1, 4, 7, 5), 512, 80, 32, 64),
            ("video", VIDEO, 64, 64, 16, 8),
        )
    ),
]

ON_ONE_ANOTHER = [
    *(
        case(
            "LatentComposite",
            f"{label}-{feather}",
            samples_to=MASKED,
            samples_from=latent(batch, 2, height, width, seed=1, noise_mask=noise(1, 1, 2, 2)),
            x=x,
            y=y,
            feather=feather,
        )
        for feather in (0, 7, 8, 24, 40, 64)
        for label, batch, height, width, x, y in (
            ("corner", 2, 4, 3, 0, 0),
            ("inside", 1, 4, 5, 16, 24),
            ("over-the-edge", 2, 9, 9, 32, 40),
            ("all", 1, 12, 9, 0, 0),
            ("line", 1, 1, 3, 8, 8),
        )
    ),
    case(
        "LatentComposite",
        "at-the-edge",
        samples_to=SAMPLES,
        samples_from=latent(2, 4, 3, 3),
        x=72,
        y=96,
        feather=0,
    ),
    case("LatentComposite", "batches", samples_to=SAMPLES, samples_from=latent(3, 2, 3, 3), x=0, y=0, feather=0),
    case("LatentComposite", "channels", samples_to=SAMPLES, samples_from=latent(2, 3, 3, 3), x=0, y=0, feather=8),
    *(
        case(
            "LatentCompositeMasked",
            f"{label}-{resize}",
            destination=MASKED,
            source=latent(batch, 2, 5, 4, seed=1),
            x=x,
            y=y,
            resize_source=resize,
            **({} if mask is None else {"mask": mask}),
        )
        for resize in (False, True)
        for label, batch, x, y, mask in (
            ("plain", 2, 8, 16, None),
            ("fewer", 1, 0, 0, noise(1, 5, 4, seed=2)),
            ("more", 3, 16, 8, noise(3, 9, 9, seed=2)),
            ("flat-mask", 2, 24, 24, noise(20, 16, seed=2)),
            ("over-the-edge", 2, 56, 80, noise(1, 3, 3, seed=2)),
            ("beyond", 2, 800, 800, noise(1, 3, 3, seed=2)),
        )
    ),
    *(
        case("LatentBlend", f"{label}-{factor}", samples1=MASKED, samples2=second, blend_factor=factor)
        for factor in (0.0, 0.3, 1.0)
        for label, second in (
            ("same", latent(2, 2, 12, 9, seed=1)),
            ("other-size", latent(2, 2, 7, 8, seed=1)),
            ("one", latent(1, 2, 12, 9, seed=1)),
            ("three", latent(3, 2, 12, 9, seed=1)),
        )
    ),
    case("SetLatentNoiseMask", "batch", samples=SAMPLES, mask=noise(2, 30, 20)),
    case("SetLatentNoiseMask", "flat", samples=MASKED, mask=noise(3, 5)),
]

SECONDS = (
    ("same", latent(2, 2, 12, 9, seed=1, batch_index=[7, 8])),
    ("other-size", latent(2, 2, 5, 8, seed=1)),
    ("fewer", latent(1, 2, 12, 9, seed=1, noise_mask=noise(1, 1, 4, 4))),
    ("more", latent(3, 2, 24, 18, seed=1)),
)

RECKONED = [
    *(
        case(node, label, samples1=MASKED, samples2=second)
        for node in ("LatentAdd", "LatentSubtract")
        for label, second in SECONDS
    ),
    case("LatentAdd", "video", samples1=VIDEO, samples2=latent(1, 2, 2, 5, 5, seed=1)),
    case("LatentAdd", "channels", samples1=SAMPLES, samples2=latent(2, 5, 12, 9)),
    *(
        case("LatentMultiply", str(factor), samples=MASKED, multiplier=factor)
        for factor in (1.0, -10.0, 0.37, 0.0)
    ),
    *(
        case("LatentInterpolate", f"{label}-{ratio}", samples1=first, samples2=second, ratio=ratio)
        for ratio in (0.0, 0.25, 1.0)
        for label, first, second in (
            ("one", latent(1, 4, 6, 5), latent(1, 4, 6, 5, seed=1)),
            ("other-size", latent(1, 4, 6, 5, noise_mask=noise(1, 1, 2, 2)), latent(2, 4, 9, 9, seed=1)),
            ("two", latent(2, 4, 3, 2), latent(2, 4, 3, 2, seed=1)),
            ("four", latent(4, 4, 3, 5), latent(4, 4, 3, 5, seed=1)),
            ("zeros", {"samples": np.zeros((1, 4, 3, 3), np.float32)}, latent(1, 4, 3, 3)),
        )
    ),
    *(
        case("LatentConcat", f"{label}-{dim}", exact=True, samples1=first, samples2=second, dim=dim)
        for dim in ("x", "-x", "y", "-y", "t", "-t")
        for label, first, second in (
            ("same", MASKED, latent(2, 2, 12, 9, seed=1)),
            ("fewer", SAMPLES, latent(1, 2, 12, 9, seed=1)),
            ("video", VIDEO, latent(2, 2, 2, 10, 12, seed=1)),
            ("wider", SAMPLES, latent(2, 2, 12, 3, seed=1)),
        )
    ),
    *(
        case(
            "LatentCut",
            f"{label}-{dim}{index}-{amount}",
            exact=True,
            samples=samples,
            dim=dim,
            index=index,
            amount=amount,
        )
        for label, samples in (("image", MASKED), ("video", VIDEO))
        for dim in ("x", "y", "t")
        for index, amount in ((0, 1), (2, 3), (-2, 5), (99, 2), (-99, 2))
    ),
]

OPERATIONS = [
    *(
        case(
            "LatentApplyOperation",
            f"tonemap-{multiplier}-{label}",
            samples=samples,
            operation=case("LatentOperationTonemapReinhard", "", multiplier=multiplier),
        )
        for multiplier in (1.0, 0.2, 100.0)
        for label, samples in (("image", MASKED), ("one-channel", latent(1, 1, 5, 6)))
    ),
    *(
        case(
            "LatentApplyOperation",
            f"sharpen-{radius}-{sigma}-{alpha}",
            samples=latent(2, 3, 12, 11),
            operation=case("LatentOperationSharpen", "", sharpen_radius=radius, sigma=sigma, alpha=alpha),
        )
        for radius, sigma, alpha in ((9, 1.0, 0.1), (1, 0.1, 5.0), (3, 10.0, 0.5), (10, 0.3, 0.0), (31, 1.0, 0.1))
    ),
]

FROM_FILES = [
    case("LoadLatent", name, latent=f"{name}.latent")
    for name in ("now", "old", "bfloat16", "no-latent", "cut-off")
]

CASES: list[Case] = [*EMPTY, *RESIZED, *ON_ONE_ANOTHER, *RECKONED, *OPERATIONS, *FROM_FILES]
