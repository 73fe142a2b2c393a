"""Images of few colours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, combo, whole
from comfy_dist.nodes.core.pictures import pixels, to_pictures

DITHERS = ["none", "floyd-steinberg", "bayer-2", "bayer-4", "bayer-8", "bayer-16"]

#: Thresholds of the four pixels of a square, in quarters of the range.
_SQUARE = np.array([[-1.5, 0.5], [1.5, -0.5]], dtype=np.float32)


class ImageQuantize:
    """Each image in a palette of its own."""

    CATEGORY = "image/postprocessing"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "quantize"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",), "colors": whole(256, 1, 256, step=1), "dither": combo(*DITHERS)}}

    def quantize(self, image: torch.Tensor, colors: int, dither: str) -> tuple[torch.Tensor]:
        """[B, H, W, 3] with at most `colors` colours in each image, of 8 bits per channel."""
        if image.shape[-1] != 3:
            raise UnusableInput(
                f"Only images of three channels are quantized; this one has {image.shape[-1]}. "
                "SplitImageWithAlpha takes an alpha channel off."
            )
        if dither not in DITHERS:
            raise UnusableInput(f"There is no dither {dither!r}; use one of {', '.join(DITHERS)}.")
        quantized = (_quantized(picture, colors, dither) for picture in to_pictures(image))
        return (torch.stack([pixels(picture.convert("RGB")) for picture in quantized]).to(image),)


def _quantized(picture: Image.Image, colors: int, dither: str) -> Image.Image:
    """The RGB picture in its own palette."""
    # Pillow dithers only into a palette that it is given.
    palette = picture.quantize(colors=colors)
    if dither.startswith("bayer-"):
        picture = _with_thresholds(
            picture, int(dither.removeprefix("bayer-")), len(palette.getpalette() or ()) // 3
        )
    kind = Image.Dither.FLOYDSTEINBERG if dither == "floyd-steinberg" else Image.Dither.NONE
    return picture.quantize(palette=palette, dither=kind)


def _with_thresholds(picture: Image.Image, order: int, colors: int) -> Image.Image:
    """The picture made lighter and darker in a regular pattern, the more so the fewer colours it will have."""
    pattern = bayer_matrix(order) * (512 / colors) + 0.5
    height, width = picture.height, picture.width
    tiled = np.tile(pattern, (-(-height // order), -(-width // order)))[:height, :width, None]
    return Image.fromarray((np.asarray(picture) + tiled).clip(0, 255).astype(np.uint8))


def bayer_matrix(order: int) -> npt.NDArray[np.float32]:
    """Bayer's ordered thresholds [order, order], each once, evenly spread over -0.5…0.5; order a power of 2."""
    matrix = np.zeros((1, 1), np.float32)
    while len(matrix) < order:
        finer = np.kron(_SQUARE, np.ones_like(matrix)) / np.float32(4 * matrix.size)
        matrix = np.tile(matrix, (2, 2)) + finer
    return matrix


NODE_CLASS_MAPPINGS = {"ImageQuantize": ImageQuantize}
NODE_DISPLAY_NAME_MAPPINGS = {"ImageQuantize": "Image Quantize"}
