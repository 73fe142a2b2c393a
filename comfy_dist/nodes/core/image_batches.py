"""Images together and apart: batches, their parts and their sizes."""

from __future__ import annotations

import torch

from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, whole
from comfy_dist.nodes.core.resize import resize_images


class ImageBatch:
    """Both batches as one; the second is resized to the first where their sizes differ."""

    CATEGORY = "image"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "batch"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image1": ("IMAGE",), "image2": ("IMAGE",)}}

    def batch(self, image1: torch.Tensor, image2: torch.Tensor) -> tuple[torch.Tensor]:
        """[A, H, W, C] and [B, h, w, C] to [A + B, H, W, C]."""
        if image1.shape[-1] != image2.shape[-1]:
            raise UnusableInput(
                f"image1 has {image1.shape[-1]} channels and image2 {image2.shape[-1]}; one batch has the same in "
                "all. SplitImageWithAlpha takes an alpha channel off."
            )
        if image1.shape[1:] != image2.shape[1:]:
            height, width = image1.shape[1:3]
            image2 = resize_images(image2, width, height, "bilinear", "center")
        return (torch.cat((image1, image2)),)


class ImageFromBatch:
    CATEGORY = "image/batch"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "frombatch"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",), "batch_index": whole(0, 0, 4095), "length": whole(1, 1, 4096)}}

    def frombatch(self, image: torch.Tensor, batch_index: int, length: int) -> tuple[torch.Tensor]:
        """Up to `length` images from `batch_index`, or the last one where there are not so many."""
        start = min(batch_index, image.shape[0] - 1)
        return (image[start : start + length].clone(),)


class RepeatImageBatch:
    CATEGORY = "image/batch"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "repeat"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",), "amount": whole(1, 1, 4096)}}

    def repeat(self, image: torch.Tensor, amount: int) -> tuple[torch.Tensor]:
        """[B, H, W, C] to [B * amount, H, W, C], the batch again and again."""
        return (image.repeat(amount, 1, 1, 1),)


class RebatchImages:
    """A list of batches as a list of batches of another size."""

    CATEGORY = "image/batch"
    INPUT_IS_LIST = True
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "rebatch"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"images": ("IMAGE",), "batch_size": whole(1, 1, 4096)}}

    def rebatch(self, images: list[torch.Tensor], batch_size: list[int]) -> tuple[list[torch.Tensor]]:
        """All images in order, `batch_size` to a batch, the last with what is left."""
        single = [image for batch in images for image in batch]
        size = batch_size[0]
        return ([_one_batch(single[start : start + size]) for start in range(0, len(single), size)],)


def _one_batch(images: list[torch.Tensor]) -> torch.Tensor:
    """[H, W, C] each, stacked."""
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        sizes = " and ".join(sorted(f"{width} x {height} x {channels}" for height, width, channels in shapes))
        raise UnusableInput(
            f"Images of one batch have one size; these have {sizes}. Rebatch them to 1, or resize."
        )
    return torch.stack(images)


NODE_CLASS_MAPPINGS = {
    "ImageBatch": ImageBatch,
    "ImageFromBatch": ImageFromBatch,
    "RepeatImageBatch": RepeatImageBatch,
    "RebatchImages": RebatchImages,
}
NODE_DISPLAY_NAME_MAPPINGS = {"ImageBatch": "Batch Images", "RebatchImages": "Rebatch Images"}
