"""Loading images."""

from __future__ import annotations

import hashlib
import mimetypes
import os
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps, ImageSequence

from comfy_dist.nodes import folders


def image_files(type_: str = "input") -> list[str]:
    """The image files lying directly in the folder, sorted."""
    with os.scandir(folders.folder(type_)) as entries:
        return sorted(entry.name for entry in entries if _is_image(entry.name) and entry.is_file())


def _is_image(name: str) -> bool:
    guessed = mimetypes.guess_type(name, strict=False)[0] or ""
    return guessed.startswith("image/") or name.lower().endswith(".webp")


def file_hash(name: str) -> str:
    """sha256 of an annotated file, in hex."""
    with folders.annotated(name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class LoadImage:
    """A picture, or all frames of an animated one."""

    CATEGORY = "image"
    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "load_image"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": (image_files(), {"image_upload": True})}}

    @classmethod
    def IS_CHANGED(cls, image: str) -> str:
        return file_hash(image)

    @classmethod
    def VALIDATE_INPUTS(cls, image: str) -> bool | str:
        return folders.exists(image) or f"Invalid image file: {image}"

    def load_image(self, image: str) -> tuple[torch.Tensor, torch.Tensor]:
        """IMAGE float32 [frames, H, W, 3] in 0…1; MASK float32 [frames, H, W], 1 where transparent.

        Without transparency the mask is zeros [frames, 64, 64]. EXIF orientation is applied; frames whose
        size is not the first one's are left out.
        """
        images: list[torch.Tensor] = []
        masks: list[torch.Tensor] = []
        with _open(folders.annotated(image)) as file:
            for frame in ImageSequence.Iterator(file):
                picture = ImageOps.exif_transpose(frame)
                if images and picture.size != (images[0].shape[1], images[0].shape[0]):
                    continue
                images.append(_pixels(picture))
                masks.append(_mask(picture))
                # An MPO's further frames are other views of one photo.
                if file.format == "MPO":
                    break
        return torch.stack(images), torch.stack(masks)


def _open(path: os.PathLike[str]) -> Image.Image:
    try:
        file = Image.open(path)
        file.load()
    except (OSError, ValueError):
        # Cut-off files show what they have.
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            file = Image.open(path)
            file.load()
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before
    return file


def _pixels(picture: Image.Image) -> torch.Tensor:
    """float32 [H, W, 3] in 0…1."""
    if picture.mode.startswith("I"):
        # 16 bits to 8, as ComfyUI scales them.
        picture = picture.convert("I").point(lambda value: value * (1 / 255))
    return torch.from_numpy(np.array(picture.convert("RGB")).astype(np.float32) / 255.0)


def _mask(picture: Image.Image) -> torch.Tensor:
    """float32 [H, W], 1 where transparent; zeros [64, 64] for a picture without transparency."""
    if "A" in picture.getbands():
        alpha = picture.getchannel("A")
    elif picture.mode == "P" and "transparency" in picture.info:
        alpha = picture.convert("RGBA").getchannel("A")
    else:
        return torch.zeros((64, 64), dtype=torch.float32)
    return 1.0 - torch.from_numpy(np.array(alpha).astype(np.float32) / 255.0)


NODE_CLASS_MAPPINGS = {"LoadImage": LoadImage}
NODE_DISPLAY_NAME_MAPPINGS = {"LoadImage": "Load Image"}
