"""Saving and showing images."""

from __future__ import annotations

import io
import json
import random
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL.PngImagePlugin import PngInfo

from comfy_dist.nodes import folders
from comfy_dist.nodes.core.channels import grey
from comfy_dist.nodes.core.inputs import Inputs
from comfy_dist.nodes.core.pictures import to_pictures


def png_metadata(prompt: Any, extra_pnginfo: Mapping[str, Any] | None) -> PngInfo | None:
    """Text chunks by which dropping the file on the page restores its prompt and workflow."""
    if not folders.save_metadata():
        return None
    metadata = PngInfo()
    if prompt is not None:
        metadata.add_text("prompt", json.dumps(prompt))
    for key, value in (extra_pnginfo or {}).items():
        metadata.add_text(key, json.dumps(value))
    return metadata


class SaveImage:
    """Saves images as PNG under the output folder."""

    CATEGORY = "image"
    DESCRIPTION = "Saves the input images to your ComfyUI output directory."
    RETURN_TYPES = ()
    FUNCTION = "save_images"
    OUTPUT_NODE = True

    type = "output"
    compress_level = 4

    # Packs derive from it and set these as ComfyUI's own has them, without calling __init__.
    #: Follows every prefix.
    prefix_append = ""
    #: Where files go; without one, where `type` says.
    output_dir: str | None = None
    #: The next number, where no search is needed to know it.
    number: int | None = None

    def __init__(self) -> None:
        self.output_dir = str(folders.folder(self.type))

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        tooltip = (
            "What the files' names begin with: a name, or a subfolder of the output folder and a name. "
            "It may hold %date:yyyy-MM-dd%, %width%, %height%, and values of nodes as %Empty Latent Image.width%."
        )
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "The images to save."}),
                "filename_prefix": ("STRING", {"default": "ComfyUI", "tooltip": tooltip}),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def save_images(
        self,
        images: torch.Tensor,
        filename_prefix: str = "ComfyUI",
        prompt: Any = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Save each of images [B, H, W, C], float in 0…1, under a number no other file has.

        Raises PathRefused where the prefix leads out of the folder.
        """
        height, width = images.shape[1:3]
        root = folders.folder(self.type) if self.output_dir is None else Path(self.output_dir)
        place = folders.save_place(filename_prefix + self.prefix_append, root, width, height, number=self.number)
        metadata = png_metadata(prompt, extra_pnginfo)
        number = place.number
        saved: list[dict[str, str]] = []
        for index, picture in enumerate(to_pictures(images)):
            encoded = io.BytesIO()
            picture.save(encoded, format="PNG", pnginfo=metadata, compress_level=self.compress_level)
            name = place.name.replace("%batch_num%", str(index))
            number = folders.create_numbered(place, number, name, ".png", encoded.getbuffer())
            saved.append({"filename": f"{name}_{number:05}_.png", "subfolder": place.subfolder, "type": self.type})
            number += 1
        if self.number is not None:
            self.number = number
        return {"ui": {"images": saved}}


class PreviewImage(SaveImage):
    """Shows images; their files lie in the temp folder."""

    type = "temp"
    compress_level = 1

    def __init__(self) -> None:
        super().__init__()
        self.prefix_append = "_temp_" + "".join(random.choices(string.ascii_lowercase, k=5))
        # Nobody else has this prefix, and the temp folder may be full: count instead of searching it.
        self.number = 1

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"images": ("IMAGE",)},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }


class MaskPreview(PreviewImage):
    """Shows masks as grey images."""

    CATEGORY = "mask"
    FUNCTION = "execute"
    compress_level = 4

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"mask": ("MASK",)},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def execute(
        self, mask: torch.Tensor, prompt: Any = None, extra_pnginfo: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        return self.save_images(grey(mask), prompt=prompt, extra_pnginfo=extra_pnginfo)


NODE_CLASS_MAPPINGS = {"SaveImage": SaveImage, "PreviewImage": PreviewImage, "MaskPreview": MaskPreview}
NODE_DISPLAY_NAME_MAPPINGS = {"SaveImage": "Save Image", "PreviewImage": "Preview Image"}
