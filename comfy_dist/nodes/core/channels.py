"""Masks of images' channels and colours, images of masks, and images by brightness and colour difference."""

from __future__ import annotations

import torch

from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, colour

CHANNELS = ["red", "green", "blue", "alpha"]


class ImageToMask:
    """One channel of an image."""

    CATEGORY = "mask"
    RETURN_TYPES = ("MASK",)
    FUNCTION = "image_to_mask"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",), "channel": (CHANNELS,)}}

    def image_to_mask(self, image: torch.Tensor, channel: str) -> tuple[torch.Tensor]:
        """[B, H, W, C] to [B, H, W]."""
        index = CHANNELS.index(channel)
        if index >= image.shape[-1]:
            raise UnusableInput(
                f"The image has no channel {channel}, only {', '.join(CHANNELS[: image.shape[-1]])}; choose one "
                "of these."
            )
        return (image[..., index],)


class MaskToImage:
    """A mask as a grey image."""

    CATEGORY = "mask"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "mask_to_image"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"mask": ("MASK",)}}

    def mask_to_image(self, mask: torch.Tensor) -> tuple[torch.Tensor]:
        return (grey(mask),)


def grey(mask: torch.Tensor) -> torch.Tensor:
    """A view [B, H, W, 3] of a mask [B, H, W] or [H, W]."""
    return mask.reshape(-1, *mask.shape[-2:], 1).expand(-1, -1, -1, 3)


class ImageColorToMask:
    """Where an image has exactly one colour."""

    CATEGORY = "mask"
    RETURN_TYPES = ("MASK",)
    FUNCTION = "image_to_mask"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",), "color": colour()}}

    def image_to_mask(self, image: torch.Tensor, color: int) -> tuple[torch.Tensor]:
        """[B, H, W, C] to [B, H, W], 1 where the first three channels in 8 bits are `color`, 0xRRGGBB."""
        if image.shape[-1] < 3:
            raise UnusableInput(f"A colour has three channels; this image has {image.shape[-1]}.")
        levels = (image.clamp(0, 1) * 255.0).round()
        red, green, blue = (
            levels[..., index] == (color >> shift & 0xFF) for index, shift in enumerate((16, 8, 0))
        )
        return ((red & green & blue).float(),)


class ImageRGBToYUV:
    """Brightness and colour differences, each as a grey image."""

    CATEGORY = "image/batch"
    RETURN_TYPES = ("IMAGE", "IMAGE", "IMAGE")
    RETURN_NAMES = ("Y", "U", "V")
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",)}}

    def execute(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Three of [B, H, W, 3] by ITU-R BT.601's weights; U and V are 0.5 where there is no colour."""
        if image.shape[-1] != 3:
            raise UnusableInput(
                f"Brightness and colour are those of three channels; this image has {image.shape[-1]}. "
                "SplitImageWithAlpha takes an alpha channel off."
            )
        red, green, blue = image.unbind(-1)
        y = 0.299 * red + 0.587 * green + 0.114 * blue
        return grey(y), grey(_U * (blue - y) + 0.5), grey(_V * (red - y) + 0.5)


#: What the differences of blue and red to the brightness are multiplied by, to lie in -0.5…0.5.
_U, _V = 0.564, 0.713


class ImageYUVToRGB:
    """The image of which ImageRGBToYUV gives these three."""

    CATEGORY = "image/batch"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"Y": ("IMAGE",), "U": ("IMAGE",), "V": ("IMAGE",)}}

    def execute(self, Y: torch.Tensor, U: torch.Tensor, V: torch.Tensor) -> tuple[torch.Tensor]:
        """Three of [B, H, W, C], of which the mean of the channels counts, to [B, H, W, 3] in 0…1."""
        if not Y.shape[:3] == U.shape[:3] == V.shape[:3]:
            sizes = ", ".join(f"{len(each)} of {each.shape[2]} x {each.shape[1]}" for each in (Y, U, V))
            raise UnusableInput(f"Y, U and V have to be as many images of one size; these are {sizes}.")
        y, u, v = (each.mean(-1) for each in (Y, U, V))
        red = y + (v - 0.5) / _V
        blue = y + (u - 0.5) / _U
        green = (y - 0.299 * red - 0.114 * blue) / 0.587
        return (torch.stack((red, green, blue), -1).clamp(0, 1),)


NODE_CLASS_MAPPINGS = {
    "ImageToMask": ImageToMask,
    "MaskToImage": MaskToImage,
    "ImageColorToMask": ImageColorToMask,
    "ImageRGBToYUV": ImageRGBToYUV,
    "ImageYUVToRGB": ImageYUVToRGB,
}
NODE_DISPLAY_NAME_MAPPINGS = {"ImageToMask": "Convert Image to Mask", "MaskToImage": "Convert Mask to Image"}
