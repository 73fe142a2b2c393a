"""Saving SVGs, which packs make."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Protocol

from comfy_dist.nodes import folders
from comfy_dist.nodes.core.inputs import Inputs, UnusableInput


class SVG(Protocol):
    """An SVG as ComfyUI hands it on: one file's content for each picture of a batch."""

    data: Sequence[BinaryIO]


class SaveSVGNode:
    """Saves each picture as a file under the output folder."""

    CATEGORY = "image/save"
    DESCRIPTION = "Saves SVGs to the output folder."
    RETURN_TYPES = ()
    FUNCTION = "save_svg"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        prefix = {"default": "svg/ComfyUI", "tooltip": "How the files are called; it may name subfolders."}
        return {
            "required": {"svg": ("SVG",), "filename_prefix": ("STRING", prefix)},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def save_svg(
        self,
        svg: SVG,
        filename_prefix: str = "svg/ComfyUI",
        prompt: Any = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Raises UnusableInput for what is no text; PathRefused where the prefix leads out of the folder."""
        metadata = {} if prompt is None else {"prompt": prompt}
        metadata |= extra_pnginfo or {}
        place = folders.save_place(filename_prefix, folders.folder("output"))
        number = place.number
        saved: list[dict[str, str]] = []
        for index, file in enumerate(svg.data):
            file.seek(0)
            try:
                text = file.read().decode()
            except UnicodeDecodeError as error:
                raise UnusableInput(f"SVG {index} of the batch is not UTF-8, and so no SVG: {error}.") from error
            if metadata and folders.save_metadata():
                text = _with_metadata(text, metadata)
            name = place.name.replace("%batch_num%", str(index))
            number = folders.create_numbered(place, number, name, ".svg", text.encode())
            saved.append({"filename": f"{name}_{number:05}_.svg", "subfolder": place.subfolder, "type": "output"})
            number += 1
        return {"ui": {"images": saved}}


def _with_metadata(svg: str, metadata: Mapping[str, Any]) -> str:
    """The SVG with prompt and workflow as JSON in an element of its own, first in the picture."""
    # In JSON "]]>" only stands in strings; escaped it does not end the section.
    text = json.dumps(metadata, indent=2).replace("]]>", "]]\\u003e")
    element = f"\n<metadata>\n<![CDATA[\n{text}\n]]>\n</metadata>\n"
    return re.sub(r"<svg[^>]*>", lambda tag: tag[0] + element, svg, count=1)


NODE_CLASS_MAPPINGS = {"SaveSVGNode": SaveSVGNode}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
