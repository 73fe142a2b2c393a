"""Making images, and plain changes of their values. IMAGE is float32 [B, H, W, C] in 0…1."""

from __future__ import annotations

import torch

from comfy_dist.nodes.core.inputs import Inputs, colour, number, side, whole


class EmptyImage:
    """A picture of one colour."""

    CATEGORY = "image"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "generate"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"width": side(), "height": side(), "batch_size": whole(1, 1, 4096), "color": colour()}
        }

    def generate(self, width: int, height: int, batch_size: int = 1, color: int = 0) -> tuple[torch.Tensor]:
        """float32 [batch_size, height, width, 3]; `color` is 0xRRGGBB."""
        channels = torch.tensor([(color >> shift & 0xFF) / 0xFF for shift in (16, 8, 0)])
        return (channels.expand(batch_size, height, width, 3).clone(),)


class ImageInvert:
    CATEGORY = "image"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "invert"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",)}}

    def invert(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        return (1.0 - image,)


class ImageAddNoise:
    """Gaussian noise, the same for the same seed."""

    CATEGORY = "image"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "repeat"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        seed = whole(0, 0, 0xFFFFFFFFFFFFFFFF, control_after_generate=True, tooltip="Another seed, other noise.")
        return {"required": {"image": ("IMAGE",), "seed": seed, "strength": number(0.5, 0.0, 1.0)}}

    def repeat(self, image: torch.Tensor, seed: int, strength: float) -> tuple[torch.Tensor]:
        """The image plus normally distributed noise of standard deviation `strength`, cut to 0…1."""
        # Made on the CPU, where it is the same on every machine.
        noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
        return ((image + strength * noise.to(image)).clamp(0.0, 1.0),)


NODE_CLASS_MAPPINGS = {
    "EmptyImage": EmptyImage,
    "ImageInvert": ImageInvert,
    "ImageAddNoise": ImageAddNoise,
}
NODE_DISPLAY_NAME_MAPPINGS = {"ImageInvert": "Invert Image"}
