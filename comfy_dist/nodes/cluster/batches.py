"""Batches of images as lists, and in another order."""

from __future__ import annotations

import torch

from comfy_dist.nodes.cluster.inputs import Inputs, at_least, whole
from comfy_dist.tensors.batches import UnusableBatch


class SplitBatchToList:
    CATEGORY = "Cluster/Image"
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "split"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",), "images_per_list_element": whole(2, 1, 64)}}

    def split(self, image: torch.Tensor, images_per_list_element: int) -> tuple[list[torch.Tensor]]:
        """Batches of so many images, the last with what is left; of no images, one empty batch.

        Raises UnusableNumber.
        """
        size = at_least(1, images_per_list_element=images_per_list_element)
        return (list(torch.split(image, size)),)


class FlattenBatchedImageList:
    CATEGORY = "Cluster/Image"
    INPUT_IS_LIST = True
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "flatten"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"images": ("IMAGE",)}}

    def flatten(self, images: list[torch.Tensor]) -> tuple[list[torch.Tensor]]:
        """Every image of every batch, [1, H, W, C]."""
        return ([image for batch in images for image in torch.split(batch, 1) if image.shape[0]],)


class InsertAtIndex:
    CATEGORY = "Cluster/Image"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "insert"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "batch": ("IMAGE",),
                "images_to_insert": ("IMAGE",),
                "insert_at_index": whole(0, 0, 10_000),
            }
        }

    def insert(
        self, batch: torch.Tensor, images_to_insert: torch.Tensor, insert_at_index: int
    ) -> tuple[torch.Tensor]:
        """The images before the one of that index, or at the end of fewer.

        Raises UnusableBatch, UnusableNumber.
        """
        at_least(0, insert_at_index=insert_at_index)
        if batch.shape[1:] != images_to_insert.shape[1:]:
            raise UnusableBatch(
                f"Images of one batch have one size: those of the batch are {_size(batch)}, and those to insert "
                f"{_size(images_to_insert)}. Resize them, or give them as many channels."
            )
        before, after = batch[:insert_at_index], batch[insert_at_index:]
        return (torch.cat((before, images_to_insert.to(batch), after)),)


def _size(images: torch.Tensor) -> str:
    return " x ".join(str(side) for side in images.shape[1:])


class StridedReorder:
    CATEGORY = "Cluster/Image"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "reorder"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",), "stride": whole(2, 1, 128)}}

    def reorder(self, image: torch.Tensor, stride: int) -> tuple[torch.Tensor]:
        """Positions 0, s, 2s, …, 1, s + 1, … Raises UnusableNumber."""
        # Of more than there are images each is the only one of its row.
        stride = max(1, min(at_least(1, stride=stride), len(image)))
        return (torch.cat([image[start::stride] for start in range(stride)]),)


NODE_CLASS_MAPPINGS = {
    "ClusterSplitBatchToList": SplitBatchToList,
    "ClusterFlattenBatchedImageList": FlattenBatchedImageList,
    "ClusterInsertAtIndex": InsertAtIndex,
    "ClusterStridedReorder": StridedReorder,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "ClusterSplitBatchToList": "Cluster Split Batch To List",
    "ClusterFlattenBatchedImageList": "Cluster Flatten Batched Image List",
    "ClusterInsertAtIndex": "Cluster Insert At Index",
    "ClusterStridedReorder": "Cluster Strided Reorder",
}
