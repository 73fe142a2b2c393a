"""Images from an address, and to one."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping
from typing import Any

import torch
from PIL.PngImagePlugin import PngInfo

from comfy_dist.nodes import folders
from comfy_dist.nodes.core.inputs import Inputs, UnusableInput
from comfy_dist.nodes.core.load import as_batch, frames
from comfy_dist.nodes.core.pictures import to_picture
from comfy_dist.nodes.core.save import png_metadata
from comfy_dist.nodes.remote.interruptible import interruptible

#: Of all frames of a picture together; Pillow's own limit is for one of them, and a small file may have thousands.
MOST_PIXELS = 178_956_970
_HTML, _RAW = "HTML_image", "Raw_data"


class LoadImageUrl:
    """LoadImage of an address. It is fetched once, as long as its outputs are kept."""

    CATEGORY = "remote/image"
    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "load_image_url"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"url": ("STRING", {"default": ""})}}

    async def load_image_url(self, url: str) -> tuple[torch.Tensor, torch.Tensor]:
        """IMAGE float32 [frames, H, W, 3] in 0…1; MASK float32 [frames, H, W], 1 where transparent.

        Raises OutsideRefused, OutsideFailed, UnusableInput for what is no picture, or a huge one.
        """
        # Not at the top: an engine starts faster without a client.
        from comfy_dist.outside.fetching import fetch

        found = await interruptible(fetch(url))
        return as_batch(frames(io.BytesIO(found.body), found.called, MOST_PIXELS))


class SaveImageUrl:
    """Posts images as JSON: {"<prefix>_00001.png": "data:image/png;base64,…", …}; raw data without the prefix."""

    CATEGORY = "remote/image"
    RETURN_TYPES = ()
    FUNCTION = "save_images"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "images": ("IMAGE",),
                "url": ("STRING", {"default": ""}),
                "filename_prefix": ("STRING", {"default": "ComfyUI"}),
                "data_format": ([_HTML, _RAW],),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    async def save_images(
        self,
        images: torch.Tensor,
        url: str,
        filename_prefix: str,
        data_format: str,
        prompt: Any = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Raises OutsideRefused, OutsideFailed for an answer other than 2xx, UnusableInput."""
        from comfy_dist.outside.posting import post_json

        height, width = images.shape[1:3]
        name = _file_name(folders.fill_variables(filename_prefix, width, height))
        begin = "" if data_format == _RAW else "data:image/png;base64,"
        metadata = png_metadata(prompt, extra_pnginfo)
        files = {
            f"{name}_{number:05}.png": begin + base64.b64encode(_png(image, metadata)).decode()
            for number, image in enumerate(images, 1)
        }
        await interruptible(post_json(url, files))
        return {}


def _file_name(prefix: str) -> str:
    """Without its folders: they say nothing to who gets the files."""
    name = os.path.basename(os.path.normpath(prefix))  # noqa: PTH119 - a name alone, of no file here
    if name in ("", ".", ".."):
        raise UnusableInput(f"The filename prefix {prefix!r} has no name that files could begin with.")
    return name


def _png(image: torch.Tensor, metadata: PngInfo | None) -> bytes:
    encoded = io.BytesIO()
    to_picture(image).save(encoded, format="PNG", pnginfo=metadata, compress_level=4)
    return encoded.getvalue()


NODE_CLASS_MAPPINGS = {"LoadImageUrl": LoadImageUrl, "SaveImageUrl": SaveImageUrl}
NODE_DISPLAY_NAME_MAPPINGS = {"LoadImageUrl": "Load Image (URL)", "SaveImageUrl": "Save Image (URL)"}
