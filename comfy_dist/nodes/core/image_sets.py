"""All pictures of a folder as one batch."""

from __future__ import annotations

import os
from typing import ClassVar

import torch
from PIL import Image

from comfy_dist.nodes import folders
from comfy_dist.nodes.core.inputs import Inputs, UnusableInput
from comfy_dist.nodes.core.load import in_eight_bits, open_picture
from comfy_dist.nodes.core.pictures import pixels
from comfy_dist.workspace import MARK


def subfolders() -> list[str]:
    """The folders in the input folder, however deep, sorted; "a/b". Not ours, which hold no user's files."""
    root = folders.folder("input")
    found = []
    for place, below, _ in os.walk(root):
        below[:] = [name for name in below if name.casefold() != MARK]
        found.append(os.path.relpath(place, root))
    return sorted(name.replace(os.sep, "/") for name in found if name != ".")


class LoadImageSetFromFolderNode:
    """The pictures of a subfolder of the input folder, in the order of their names."""

    resize_methods: ClassVar = ["None", "Stretch", "Crop", "Pad"]
    CATEGORY = "loaders"
    DESCRIPTION = "Loads the pictures of a folder as one batch."
    EXPERIMENTAL = True
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "load_images"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"folder": (subfolders(), {"tooltip": "A subfolder of the input folder."})},
            "optional": {"resize_method": (cls.resize_methods, {"default": "None"})},
        }

    def load_images(self, folder: str, resize_method: str = "None") -> tuple[torch.Tensor]:
        """[B, H, W, 3] in the size of the first.

        Others are stretched (by "Pad" too, as ComfyUI does), or cut off or filled up with black at the right and
        bottom by "Crop". "None" takes no others.
        """
        place = folders.annotated(folder)
        files = sorted(
            each for each in place.iterdir() if each.name.lower().endswith(_EXTENSIONS) and each.is_file()
        )
        pictures = [in_eight_bits(open_picture(file)).convert("RGB") for file in files]
        if not pictures:
            raise UnusableInput(f"The folder {folder} has no pictures ({', '.join(_EXTENSIONS)}).")
        size = pictures[0].size
        for index, picture in enumerate(pictures):
            if picture.size == size:
                continue
            if resize_method == "None":
                raise UnusableInput(
                    f"{files[index].name} has {picture.width} x {picture.height} pixels, {files[0].name} "
                    f"{size[0]} x {size[1]}; choose a resize_method, or pictures of one size."
                )
            if resize_method == "Crop":
                pictures[index] = picture.crop((0, 0, *size))
            else:
                pictures[index] = picture.resize(size, Image.Resampling.LANCZOS)
        return (torch.stack([pixels(picture) for picture in pictures]),)


_EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")

NODE_CLASS_MAPPINGS = {"LoadImageSetFromFolderNode": LoadImageSetFromFolderNode}
NODE_DISPLAY_NAME_MAPPINGS = {"LoadImageSetFromFolderNode": "Load Image Dataset from Folder"}
