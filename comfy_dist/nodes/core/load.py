"""Loading images."""

from __future__ import annotations

import hashlib
import io
import mimetypes
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, TypeAlias

import torch
from PIL import Image, ImageFile, ImageOps, ImageSequence

from comfy_dist.nodes import folders
from comfy_dist.nodes.core.inputs import Inputs, UnusableInput, side
from comfy_dist.nodes.core.pictures import pixels
from comfy_dist.picture_formats import readable_formats

Source: TypeAlias = Path | io.BytesIO


def files(type_: str = "input") -> list[str]:
    """The files lying directly in the folder, sorted."""
    with os.scandir(folders.folder(type_)) as entries:
        return sorted(entry.name for entry in entries if entry.is_file())


def image_files(type_: str = "input") -> list[str]:
    """Those whose names are images'."""
    return [name for name in files(type_) if _is_image(name)]


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
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": (image_files(), {"image_upload": True})}}

    @classmethod
    def IS_CHANGED(cls, image: str) -> str:
        return file_hash(image)

    @classmethod
    def VALIDATE_INPUTS(cls, image: str) -> bool | str:
        return folders.exists(image) or f"Invalid image file: {image}"

    def load_image(self, image: str) -> tuple[torch.Tensor, torch.Tensor]:
        """IMAGE float32 [frames, H, W, 3] in 0…1; MASK float32 [frames, H, W], 1 where transparent.

        Without any transparency the mask is zeros [frames, 64, 64]. EXIF orientation is applied; frames whose
        size is not the first one's are left out. Raises UnusableInput for what is no picture.
        """
        return as_batch(frames(folders.annotated(image)), opaque=(64, 64))


def as_batch(
    pictures: Iterable[Image.Image], opaque: tuple[int, int] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """IMAGE float32 [B, H, W, 3] and MASK float32 [B, H, W], 1 where transparent, of one picture at least.

    Those whose size is not the first one's are left out. Without any transparency the mask is zeros, of the height
    and width `opaque` or the pictures' own.
    """
    images: list[torch.Tensor] = []
    masks: list[torch.Tensor | None] = []
    for picture in pictures:
        if images and picture.size != (images[0].shape[1], images[0].shape[0]):
            continue
        images.append(pixels(in_eight_bits(picture).convert("RGB")))
        masks.append(_mask(picture))
    own = images[0].shape[:2]
    size = own if opaque is None or any(mask is not None for mask in masks) else opaque
    return torch.stack(images), torch.stack([torch.zeros(size) if mask is None else mask for mask in masks])


class LoadImageOutput(LoadImage):
    """A picture of the output folder; the page asks for the list when it is wanted."""

    DESCRIPTION = "Loads an image of the output folder. The refresh button lists it anew and takes the first one."
    EXPERIMENTAL = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        remote = {
            "route": "/internal/files/output",
            "refresh_button": True,
            "control_after_refresh": "first",
        }
        return {
            "required": {"image": ("COMBO", {"image_upload": True, "image_folder": "output", "remote": remote})}
        }


class WebcamCapture(LoadImage):
    """A picture that the page took with the camera and uploaded."""

    RETURN_TYPES = ("IMAGE",)  # type: ignore[assignment]
    FUNCTION = "load_capture"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "image": ("WEBCAM", {}),
                "width": side(0, 0),
                "height": side(0, 0),
                "capture_on_queue": ("BOOLEAN", {"default": True}),
            }
        }

    @classmethod
    def IS_CHANGED(  # type: ignore[override]
        cls, image: str, width: int, height: int, capture_on_queue: bool
    ) -> str:
        return file_hash(image)

    def load_capture(self, image: str, width: int, height: int, capture_on_queue: bool) -> tuple[torch.Tensor]:
        """IMAGE float32 [1, H, W, 3] as it was taken; the size and the rest are the page's."""
        return self.load_image(image)[:1]


class LoadImageMask:
    """One channel of a picture as a mask."""

    CHANNELS: ClassVar = ["alpha", "red", "green", "blue"]
    CATEGORY = "mask"
    RETURN_TYPES = ("MASK",)
    FUNCTION = "load_image"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": (files(), {"image_upload": True}), "channel": (cls.CHANNELS,)}}

    @classmethod
    def IS_CHANGED(cls, image: str, channel: str) -> str:
        return file_hash(image)

    @classmethod
    def VALIDATE_INPUTS(cls, image: str) -> bool | str:
        return folders.exists(image) or f"Invalid image file: {image}"

    def load_image(self, image: str, channel: str) -> tuple[torch.Tensor]:
        """MASK float32 [1, H, W] in 0…1 of the first frame; that of alpha is 1 where transparent."""
        picture = in_eight_bits(next(frames(folders.annotated(image)))).convert("RGBA")
        mask = pixels(picture.getchannel(channel[0].upper()))[None]
        return (1.0 - mask if channel == "alpha" else mask,)


#: What Pillow raises at files that are broken, beside the errors of the file system.
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    SyntaxError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    struct.error,
    zlib.error,
)


#: A file of some bytes for each frame may have millions of them.
_LEAST_PIXELS = 64 * 64


def frames(source: Source, name: str | None = None, most: int | None = None) -> Iterator[Image.Image]:
    """The pictures of a file, turned as EXIF says. A broken file gives what it has.

    `name` is what errors call it. Raises UnusableInput for what is no picture, and TooLarge for a huge one, or one
    with more than `most` pixels in all of its frames, before it reads these.
    """
    name = _name(source, name)
    with open_picture(source, name, most) as file:
        sequence = ImageSequence.Iterator(file)
        with _reading(name):
            # Without layers a Photoshop file has no frame, but a picture.
            picture = ImageOps.exif_transpose(next(sequence, file))
        yield picture
        pixels_read = _counted(picture)
        # An MPO's further frames are other views of one photo.
        while file.format != "MPO":
            try:
                with _reading(name):
                    picture = next(sequence)
                pixels_read += _counted(picture)
                if most is not None:
                    # Frames of a TIFF have a size each.
                    _bound(pixels_read, name, most)
                with _reading(name):
                    picture = ImageOps.exif_transpose(picture)
            except TooLarge:
                raise
            except (StopIteration, UnusableInput):
                return
            yield picture


class TooLarge(UnusableInput):
    """A picture that would take too much memory."""


def open_picture(source: Source, name: str | None = None, most: int | None = None) -> Image.Image:
    """The file with its first frame read, of which a broken file may lack a part. Raises UnusableInput."""
    name = _name(source, name)
    with _reading(name):
        file = Image.open(source, formats=readable_formats())
        if most is not None:
            _bound(_counted(file) * getattr(file, "n_frames", 1), name, most)
        file.load()
    return file


def _name(source: Source, name: str | None) -> str:
    return source.name if isinstance(source, Path) and name is None else name or "The file"


def _counted(frame: Image.Image) -> int:
    """Its pixels; of a tiny one as many as take the memory that any frame does."""
    return max(frame.width * frame.height, _LEAST_PIXELS)


def _bound(pixels: int, name: str, most: int) -> None:
    if pixels > most:
        raise TooLarge(
            f"{name} is too large to be loaded: it has more than {most:,} pixels in all of its frames, where each "
            f"counts for {_LEAST_PIXELS:,} at least."
        )


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Pillow makes do with files that end early, and says in a sentence what it cannot read."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    except Image.DecompressionBombError as error:
        raise TooLarge(f"{name} is too large to be loaded: {error}") from error
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UnusableInput(f"{name} is no picture that can be read: unknown format, or broken.") from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def in_eight_bits(picture: Image.Image) -> Image.Image:
    """Grey values of 16 and 32 bits as ComfyUI scales them, others as they are.

    ComfyUI looks for Pillow's mode "I" only; later Pillows open 16 bits as "I;16", and it shows them white.
    """
    if not picture.mode.startswith("I"):
        return picture
    return picture.convert("I").point(lambda value: value * (1 / 255))


def _mask(picture: Image.Image) -> torch.Tensor | None:
    """float32 [H, W], 1 where transparent; None for a picture without transparency."""
    if "A" in picture.getbands():
        return 1.0 - pixels(picture.getchannel("A"))
    if picture.mode == "P" and "transparency" in picture.info:
        return 1.0 - pixels(picture.convert("RGBA").getchannel("A"))
    return None


NODE_CLASS_MAPPINGS = {
    "LoadImage": LoadImage,
    "LoadImageMask": LoadImageMask,
    "LoadImageOutput": LoadImageOutput,
    "WebcamCapture": WebcamCapture,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "LoadImage": "Load Image",
    "LoadImageMask": "Load Image (as Mask)",
    "LoadImageOutput": "Load Image (from Outputs)",
    "WebcamCapture": "Webcam Capture",
}
