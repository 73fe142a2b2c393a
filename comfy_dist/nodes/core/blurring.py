"""Blurring and sharpening by a Gaussian."""

from __future__ import annotations

import torch

from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, number, whole

#: How much of its blur a fully sharpened image loses.
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
        """The image without a part of its blur, as bright as before."""
        if sharpen_radius == 0:
            return (image,)
        # With less than float64, what the two large terms leave would be off by more than 1e-6.
        exact = image.double()
        strength = alpha * _SHARPNESS
        sharpened = exact * (1 + strength) - gaussian_blur(exact, sharpen_radius, sigma) * strength
        return (sharpened.clamp(0, 1).to(image.dtype),)


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
    places = torch.linspace(-1, 1, 2 * radius + 1, dtype=image.dtype, device=image.device)
    weights = torch.exp(-(places**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    # Channels lie beside the batch: each is blurred by itself.
    planes = image.movedim(-1, 1).flatten(0, 1)[:, None]
    planes = torch.nn.functional.pad(planes, (radius,) * 4, mode="reflect")
    planes = torch.nn.functional.conv2d(planes, weights.reshape(1, 1, 1, -1))
    planes = torch.nn.functional.conv2d(planes, weights.reshape(1, 1, -1, 1))
    return planes.reshape(image.shape[0], image.shape[-1], height, width).movedim(1, -1)


NODE_CLASS_MAPPINGS = {"ImageBlur": ImageBlur, "ImageSharpen": ImageSharpen}
NODE_DISPLAY_NAME_MAPPINGS = {"ImageBlur": "Image Blur", "ImageSharpen": "Image Sharpen"}
