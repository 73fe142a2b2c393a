"""Images cut, turned and given more room."""

from __future__ import annotations

import torch

from comfy_dist.nodes.core.inputs import Inputs, side

ROTATIONS = ["none", "90 degrees", "180 degrees", "270 degrees"]
FLIPS = ["x-axis: vertically", "y-axis: horizontally"]


class ImageCrop:
    """A part of the image, cut off at its edges."""

    CATEGORY = "image/transform"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "crop"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "image": ("IMAGE",),
                "width": side(),
                "height": side(),
                "x": side(0, 0),
                "y": side(0, 0),
            }
        }

    def crop(self, image: torch.Tensor, width: int, height: int, x: int, y: int) -> tuple[torch.Tensor]:
        """[B, H, W, C] to at most [B, height, width, C], at least one pixel."""
        x = min(x, image.shape[2] - 1)
        y = min(y, image.shape[1] - 1)
        return (image[:, y : y + height, x : x + width, :],)


class ImageFlip:
    CATEGORY = "image/transform"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "flip"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",), "flip_method": (FLIPS,)}}

    def flip(self, image: torch.Tensor, flip_method: str) -> tuple[torch.Tensor]:
        """About the x axis, which changes top and bottom, or about the y axis."""
        return (image.flip(1 if flip_method.startswith("x") else 2),)


class ImageRotate:
    """Turns clockwise."""

    CATEGORY = "image/transform"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "rotate"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",), "rotation": (ROTATIONS,)}}

    def rotate(self, image: torch.Tensor, rotation: str) -> tuple[torch.Tensor]:
        """[B, H, W, C] to [B, W, H, C] by a quarter turn."""
        return (image.rot90(ROTATIONS.index(rotation), (2, 1)),)


class ImagePadForOutpaint:
    """A grey border, and a mask of what is to be painted."""

    CATEGORY = "image"
    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "expand_image"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        border = {name: side(0, 0, 8) for name in ("left", "top", "right", "bottom")}
        return {"required": {"image": ("IMAGE",), **border, "feathering": side(40, 0)}}

    def expand_image(
        self, image: torch.Tensor, left: int, top: int, right: int, bottom: int, feathering: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, H, W, C] with the border; MASK [1, H, W] of both, 1 in the border, which fades into the image.

        An image narrower than twice the feathering gets none.
        """
        batch, height, width, channels = image.shape
        padded = torch.full((batch, height + top + bottom, width + left + right, channels), 0.5)
        padded[:, top : top + height, left : left + width] = image
        mask = torch.ones(padded.shape[1:3])
        inside = mask[top : top + height, left : left + width]
        inside.zero_()
        if 0 < feathering * 2 < min(height, width):
            rows = _distance_to_border(height, top, bottom)[:, None]
            columns = _distance_to_border(width, left, right)[None, :]
            distance = torch.minimum(rows, columns).clamp(max=feathering)
            inside.copy_(((feathering - distance) / feathering) ** 2)
        return padded, mask[None]


def _distance_to_border(length: int, before: int, after: int) -> torch.Tensor:
    """float32 [length]: how far each place is from the nearer border, `length` where there is none.

    The first place lies on the border before it, the last one a pixel off the border after it.
    """
    places = torch.arange(length, dtype=torch.float32)
    nowhere = torch.full_like(places, length)
    return torch.minimum(places if before else nowhere, length - places if after else nowhere)


NODE_CLASS_MAPPINGS = {
    "ImageCrop": ImageCrop,
    "ImageFlip": ImageFlip,
    "ImageRotate": ImageRotate,
    "ImagePadForOutpaint": ImagePadForOutpaint,
}
NODE_DISPLAY_NAME_MAPPINGS = {"ImageCrop": "Image Crop", "ImagePadForOutpaint": "Pad Image for Outpainting"}
