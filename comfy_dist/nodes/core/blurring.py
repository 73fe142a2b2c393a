"""Blurring and sharpening by a Gaussian."""

from __future__ import annotations

import torch

from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, number, whole

#: How often its detail, what a blur takes away, is added to an image sharpened by an alpha of 1.
_SHARPNESS = 10


class ImageBlur:
    CATEGORY = "image/postprocessing"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "blur"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "image": ("IMAGE",),
                "blur_radius": whole(1, 1, 31, step=1),
                "sigma": number(1.0, 0.1, 10.0, 0.1),
            }
        }

    def blur(self, image: torch.Tensor, blur_radius: int, sigma: float) -> tuple[torch.Tensor]:
        return (gaussian_blur(image, blur_radius, sigma),)


class ImageSharpen:
    CATEGORY = "image/postprocessing"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "sharpen"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "image": ("IMAGE",),
                "sharpen_radius": whole(1, 1, 31, step=1),
                "sigma": number(1.0, 0.1, 10.0),
                "alpha": number(1.0, 0.0, 5.0),
            }
        }

    def sharpen(self, image: torch.Tensor, sharpen_radius: int, sigma: float, alpha: float) -> tuple[torch.Tensor]:
        """The image with more of what its blur lacks, as bright as before."""
        if sharpen_radius == 0:
            return (image,)
        detail = image - gaussian_blur(image, sharpen_radius, sigma)
        return ((image + alpha * _SHARPNESS * detail).clamp(0, 1),)


def gaussian_blur(image: torch.Tensor, radius: int, sigma: float) -> torch.Tensor:
    """image [B, H, W, C] blurred over 2 * radius + 1 pixels, mirrored at its edges; sigma in radii.

    The Gaussian of two dimensions is the product of two of one: first along the width, then the height.
    """
    if radius == 0:
        return image
    height, width = image.shape[1:3]
    if radius >= min(height, width):
        raise UnusableInput(
            f"A radius of {radius} needs images of more than {radius} pixels on each side; this one has "
            f"{width} x {height}. Use a smaller radius, or a larger image."
        )
    weights = gaussian(radius, sigma)
    return _weighted(_weighted(image, 2, weights), 1, weights)


def gaussian(radius: int, sigma: float) -> list[float]:
    """Weights of the 2 * radius + 1 pixels around one, 1 together; sigma in radii."""
    places = torch.linspace(-1, 1, 2 * radius + 1)
    weights = torch.exp(-(places**2) / (2 * sigma**2))
    return (weights / weights.sum()).tolist()


def _weighted(image: torch.Tensor, dim: int, weights: list[float]) -> torch.Tensor:
    """Each pixel as the sum of its neighbours along `dim`, by weights."""
    length, radius = image.shape[dim], len(weights) // 2
    mirrored = torch.arange(-radius, length + radius, device=image.device).abs()
    mirrored = torch.minimum(mirrored, 2 * (length - 1) - mirrored)
    padded = image.index_select(dim, mirrored)
    # Sums of whole images: a convolution by so narrow a kernel takes several times as long on a CPU.
    result = torch.zeros_like(image)
    for place, weight in enumerate(weights):
        result.add_(padded.narrow(dim, place, length), alpha=weight)
    return result


NODE_CLASS_MAPPINGS = {"ImageBlur": ImageBlur, "ImageSharpen": ImageSharpen}
NODE_DISPLAY_NAME_MAPPINGS = {"ImageBlur": "Image Blur", "ImageSharpen": "Image Sharpen"}
