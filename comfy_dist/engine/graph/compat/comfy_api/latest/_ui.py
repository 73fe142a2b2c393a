"""`comfy_api.latest.ui`: what nodes show, and saving pictures. There is no audio here."""

from __future__ import annotations

import io
import json
import random
import string
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from comfy_dist.engine.graph.schema.hidden import HiddenHolder
from comfy_dist.engine.graph.schema.node import ComfyNode, UIOutput
from comfy_dist.engine.graph.schema.widgets import FolderType
from comfy_dist.nodes import folders
from comfy_dist.nodes.core.pictures import to_pictures
from comfy_dist.nodes.core.save import png_metadata

_Node = type[ComfyNode] | None
#: EXIF's Model and Make: where ComfyUI puts the prompt, and counting down from there the rest.
_EXIF_PROMPT, _EXIF_MORE = 0x0110, 0x010F


class SavedResult(dict[str, str]):
    """A file that clients can fetch."""

    def __init__(self, filename: str, subfolder: str, type: FolderType) -> None:
        super().__init__(filename=filename, subfolder=subfolder, type=FolderType(type).value)

    @property
    def filename(self) -> str:
        return self["filename"]

    @property
    def subfolder(self) -> str:
        return self["subfolder"]

    @property
    def type(self) -> FolderType:
        return FolderType(self["type"])


class SavedImages(UIOutput):
    def __init__(self, results: Sequence[SavedResult], is_animated: bool = False) -> None:
        self.results = list(results)
        self.is_animated = is_animated

    def as_dict(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"images": self.results}
        return shown | {"animated": (True,)} if self.is_animated else shown


class SavedAudios(UIOutput):
    def __init__(self, results: Sequence[SavedResult]) -> None:
        self.results = list(results)

    def as_dict(self) -> dict[str, Any]:
        return {"audio": self.results}


class ImageSaveHelper:
    """Saving images [B, H, W, C], float in 0…1, with the prompt in their metadata where `cls` has it."""

    @staticmethod
    def save_images(
        images: torch.Tensor, filename_prefix: str, folder_type: FolderType, cls: _Node, compress_level: int = 4
    ) -> list[SavedResult]:
        """One PNG for each."""
        place = _place(images, filename_prefix, folder_type)
        hidden = _hidden(cls)
        metadata = png_metadata(hidden.prompt, hidden.extra_pnginfo) if hidden is not None else None
        number, saved = place.number, []
        for index, picture in enumerate(to_pictures(images)):
            encoded = io.BytesIO()
            picture.save(encoded, format="PNG", pnginfo=metadata, compress_level=compress_level)
            name = place.name.replace("%batch_num%", str(index))
            number = folders.create_numbered(place, number, name, ".png", encoded.getbuffer())
            saved.append(SavedResult(f"{name}_{number:05}_.png", place.subfolder, folder_type))
            number += 1
        return saved

    @staticmethod
    def get_save_images_ui(
        images: torch.Tensor, filename_prefix: str, cls: _Node, compress_level: int = 4
    ) -> SavedImages:
        return SavedImages(
            ImageSaveHelper.save_images(images, filename_prefix, FolderType.output, cls, compress_level)
        )

    @staticmethod
    def save_animated_png(
        images: torch.Tensor,
        filename_prefix: str,
        folder_type: FolderType,
        cls: _Node,
        fps: float,
        compress_level: int,
    ) -> SavedResult:
        """One animated PNG of all."""
        options = {"pnginfo": _animated_metadata(cls), "compress_level": compress_level}
        return _save_animated(images, filename_prefix, folder_type, fps, ".png", options)

    @staticmethod
    def get_save_animated_png_ui(
        images: torch.Tensor, filename_prefix: str, cls: _Node, fps: float, compress_level: int
    ) -> SavedImages:
        saved = ImageSaveHelper.save_animated_png(
            images, filename_prefix, FolderType.output, cls, fps, compress_level
        )
        return SavedImages([saved], is_animated=len(images) > 1)

    @staticmethod
    def save_animated_webp(
        images: torch.Tensor,
        filename_prefix: str,
        folder_type: FolderType,
        cls: _Node,
        fps: float,
        lossless: bool,
        quality: int,
        method: int,
    ) -> SavedResult:
        """One animated WebP of all; `quality` 0…100, `method` 0…6, higher is slower and smaller."""
        options = {"exif": _exif(cls), "lossless": lossless, "quality": quality, "method": method}
        return _save_animated(images, filename_prefix, folder_type, fps, ".webp", options)

    @staticmethod
    def get_save_animated_webp_ui(
        images: torch.Tensor,
        filename_prefix: str,
        cls: _Node,
        fps: float,
        lossless: bool,
        quality: int,
        method: int,
    ) -> SavedImages:
        saved = ImageSaveHelper.save_animated_webp(
            images, filename_prefix, FolderType.output, cls, fps, lossless, quality, method
        )
        return SavedImages([saved], is_animated=len(images) > 1)


def _place(images: torch.Tensor, prefix: str, folder_type: FolderType) -> folders.SavePlace:
    height, width = images[0].shape[:2]
    return folders.save_place(prefix, folders.folder(folder_type), width, height)


def _hidden(cls: _Node) -> HiddenHolder | None:
    """What the node knows of its prompt, if files are to tell it."""
    return cls.hidden if cls is not None and folders.save_metadata() else None


def _save_animated(
    images: torch.Tensor,
    prefix: str,
    folder_type: FolderType,
    fps: float,
    extension: str,
    options: dict[str, Any],
) -> SavedResult:
    place = _place(images, prefix, folder_type)
    first, *others = to_pictures(images)
    encoded = io.BytesIO()
    form = extension[1:].upper()
    first.save(encoded, form, save_all=True, append_images=others, duration=int(1000 / fps), **options)
    number = folders.create_numbered(place, place.number, place.name, extension, encoded.getbuffer())
    return SavedResult(f"{place.name}_{number:05}_{extension}", place.subfolder, folder_type)


def _animated_metadata(cls: _Node) -> PngInfo | None:
    """Chunks after the first frame, as text chunks before it would be lost to it."""
    hidden = _hidden(cls)
    if hidden is None:
        return None
    metadata = PngInfo()
    for key, value in {"prompt": hidden.prompt, **(hidden.extra_pnginfo or {})}.items():
        if value is not None:
            metadata.add(b"comf", key.encode("latin-1") + b"\0" + json.dumps(value).encode(), after_idat=True)
    return metadata


def _exif(cls: _Node) -> Image.Exif:
    exif = Image.Exif()
    hidden = _hidden(cls)
    if hidden is not None:
        if hidden.prompt is not None:
            exif[_EXIF_PROMPT] = f"prompt:{json.dumps(hidden.prompt)}"
        for index, (key, value) in enumerate((hidden.extra_pnginfo or {}).items()):
            exif[_EXIF_MORE - index] = f"{key}:{json.dumps(value)}"
    return exif


class PreviewImage(UIOutput):
    """Images [B, H, W, C] in the temp folder."""

    def __init__(self, image: torch.Tensor, animated: bool = False, cls: _Node = None, **_: Any) -> None:
        prefix = "ComfyUI_temp_" + "".join(random.choices(string.ascii_lowercase, k=5))
        self.values = ImageSaveHelper.save_images(image, prefix, FolderType.temp, cls, compress_level=1)
        self.animated = animated

    def as_dict(self) -> dict[str, Any]:
        return {"images": self.values, "animated": (self.animated,)}


class PreviewMask(PreviewImage):
    """Masks [B, H, W] or [B, 1, H, W] in the temp folder."""

    def __init__(self, mask: torch.Tensor, animated: bool = False, cls: _Node = None, **_: Any) -> None:
        height, width = mask.shape[-2:]
        super().__init__(mask.reshape(-1, height, width, 1).expand(-1, -1, -1, 3), animated, cls)


class PreviewVideo(UIOutput):
    """Video files that are there already."""

    def __init__(self, values: Sequence[SavedResult | dict[str, str]], **_: Any) -> None:
        self.values = list(values)

    def as_dict(self) -> dict[str, Any]:
        return {"images": self.values, "animated": (True,)}


class PreviewUI3D(UIOutput):
    """A 3D model's file, and where the camera is."""

    def __init__(self, model_file: str, camera_info: Any, **_: Any) -> None:
        self.model_file = model_file
        self.camera_info = camera_info

    def as_dict(self) -> dict[str, Any]:
        return {"result": [self.model_file, self.camera_info]}


class PreviewText(UIOutput):
    def __init__(self, value: str, **_: Any) -> None:
        self.value = value

    def as_dict(self) -> dict[str, Any]:
        return {"text": (self.value,)}
