"""Saving a batch of images as one moving picture."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from comfy_dist.nodes import folders
from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, number, whole
from comfy_dist.nodes.core.pictures import to_pictures

#: Exif's tags for a camera's model and maker: ComfyUI's page looks there.
_MODEL, _MAKE = 0x0110, 0x010F

_FPS = number(6.0, 0.01, 1000.0)
_HIDDEN = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}


class SaveAnimatedWEBP:
    """Saves all images as one WebP under the output folder; pixels survive where it is lossless."""

    CATEGORY = "image/animation"
    RETURN_TYPES = ()
    FUNCTION = "save_images"
    OUTPUT_NODE = True

    #: How hard the encoder tries.
    methods = {"default": 4, "fastest": 0, "slowest": 6}

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "images": ("IMAGE",),
                "filename_prefix": ("STRING", {"default": "ComfyUI"}),
                "fps": _FPS,
                "lossless": ("BOOLEAN", {"default": True}),
                "quality": whole(80, 0, 100),
                "method": (list(cls.methods),),
            },
            "hidden": _HIDDEN,
        }

    def save_images(
        self,
        images: torch.Tensor,
        fps: float,
        filename_prefix: str,
        lossless: bool,
        quality: int,
        method: str,
        prompt: Any = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """images [B, H, W, C], float in 0…1. Raises UnusableInput; PathRefused where the prefix leads out."""
        exif = Image.Exif()
        if folders.save_metadata():
            if prompt is not None:
                exif[_MODEL] = f"prompt:{json.dumps(prompt)}"
            for number, (key, value) in enumerate((extra_pnginfo or {}).items()):
                exif[_MAKE - number] = f"{key}:{json.dumps(value)}"
        options = {"exif": exif, "lossless": lossless, "quality": quality, "method": self.methods[method]}
        return _saved(images, fps, filename_prefix, "webp", options, len(images) != 1)


class SaveAnimatedPNG:
    """Saves all images as one animated PNG under the output folder."""

    CATEGORY = "image/animation"
    RETURN_TYPES = ()
    FUNCTION = "save_images"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "images": ("IMAGE",),
                "filename_prefix": ("STRING", {"default": "ComfyUI"}),
                "fps": _FPS,
                "compress_level": whole(4, 0, 9),
            },
            "hidden": _HIDDEN,
        }

    def save_images(
        self,
        images: torch.Tensor,
        fps: float,
        compress_level: int,
        filename_prefix: str = "ComfyUI",
        prompt: Any = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """images [B, H, W, C], float in 0…1. Raises UnusableInput; PathRefused where the prefix leads out."""
        metadata = None
        if folders.save_metadata():
            metadata = PngInfo()
            texts = {} if prompt is None else {"prompt": prompt}
            for key, value in {**texts, **(extra_pnginfo or {})}.items():
                # A chunk of ComfyUI's own, as programs that copy animations drop text.
                metadata.add(b"comf", f"{key}\0{json.dumps(value)}".encode("latin-1", "replace"), after_idat=True)
        options = {"pnginfo": metadata, "compress_level": compress_level}
        return _saved(images, fps, filename_prefix, "png", options, True)


def _saved(
    images: torch.Tensor, fps: float, prefix: str, extension: str, options: Mapping[str, Any], animated: bool
) -> dict[str, Any]:
    """Save with Pillow's `options`; the node's result."""
    # Limits hold for what is typed in, not for what another node gives.
    if not 0 < fps < float("inf"):
        raise UnusableInput(f"{fps:g} images in a second make no animation; give more than 0.")
    if not len(images):
        raise UnusableInput("There are no images to make an animation of.")
    first, *others = to_pictures(images)
    place = folders.save_place(prefix, folders.folder("output"), *first.size)
    encoded = io.BytesIO()
    first.save(
        encoded,
        format=extension,
        save_all=True,
        append_images=others,
        duration=int(1000.0 / fps),
        **options,
    )
    number = folders.create_numbered(place, place.number, place.name, f".{extension}", encoded.getbuffer())
    name = f"{place.name}_{number:05}_.{extension}"
    saved = {"filename": name, "subfolder": place.subfolder, "type": "output"}
    return {"ui": {"images": [saved], "animated": (animated,)}}


NODE_CLASS_MAPPINGS = {"SaveAnimatedWEBP": SaveAnimatedWEBP, "SaveAnimatedPNG": SaveAnimatedPNG}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
