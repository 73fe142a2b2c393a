"""What nodes write to files: `record_files.py` keeps the files that ComfyUI's write."""

from __future__ import annotations

from tests.nodes.making import Case, bytes_noise, case, latent

PROMPT = {"1": {"class_type": "X", "inputs": {"text": 'ünï "code" ☃'}}}
PNGINFO = {"workflow": {"nodes": [1, "é"]}, "more": None}
FRAMES = bytes_noise(3, 5, 7, 3)

CASES: list[Case] = [
    *(
        case(
            "SaveAnimatedWEBP",
            label,
            images=images,
            fps=fps,
            filename_prefix="a/%width%x%height%",
            lossless=lossless,
            quality=quality,
            method=method,
            prompt=PROMPT,
            extra_pnginfo=PNGINFO,
        )
        for label, images, fps, lossless, quality, method in (
            ("lossless", FRAMES, 6.0, True, 80, "default"),
            ("transparent", bytes_noise(3, 5, 7, 4), 24.0, True, 100, "slowest"),
            ("lossy", bytes_noise(2, 8, 8, 3), 0.01, False, 30, "fastest"),
            ("one", FRAMES[:1], 1000.0, True, 80, "default"),
            ("still", FRAMES[[0, 0, 1]], 12.5, True, 80, "default"),
        )
    ),
    *(
        case(
            "SaveAnimatedPNG",
            label,
            images=images,
            fps=fps,
            compress_level=level,
            filename_prefix="a/%width%x%height%",
            prompt=PROMPT,
            extra_pnginfo=PNGINFO,
        )
        for label, images, fps, level in (
            ("colour", FRAMES, 6.0, 4),
            ("transparent", bytes_noise(3, 5, 7, 4), 24.0, 0),
            ("one", FRAMES[:1], 1000.0, 9),
            ("still", FRAMES[[0, 0, 1]], 12.5, 4),
        )
    ),
    case(
        "SaveLatent", "image", samples=latent(2, 4, 3, 2, noise_mask=FRAMES), prompt=PROMPT, extra_pnginfo=PNGINFO
    ),
    case("SaveLatent", "video", samples=latent(1, 2, 2, 3, 2), filename_prefix="deep/er/x"),
]
