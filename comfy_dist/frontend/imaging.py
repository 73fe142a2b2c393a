"""Pictures re-encoded for /view and /upload/mask. Pillow is loaded here, at the first use, or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from comfy_dist.errors import MissingDependency
from comfy_dist.frontend.answers import Refused
from comfy_dist.frontend.storage import usable_name
from comfy_dist.picture_formats import readable_formats

if TYPE_CHECKING:
    from PIL import Image


def _open(source: Path | BinaryIO, what: str) -> Image.Image:
    """The decoded picture; Refused where it is none, MissingDependency without Pillow."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingDependency(
            "Previews, channels and masks need Pillow: install comfy_dist[worker] for this frontend."
        ) from None
    try:
        image = Image.open(source, formats=readable_formats())
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Refused(400, f"{what} cannot be read as a picture: {error}.", kind="not_an_image") from None
    return image


def preview(path: Path, *, format: str, quality: int) -> bytes:
    """The picture as WebP or JPEG, as /view?preview=webp;90 asks."""
    with _open(path, path.name) as image:
        if format == "jpeg" or image.mode not in ("RGB", "RGBA"):
            has_alpha = "A" in image.getbands() or "transparency" in image.info
            image = image.convert("RGBA" if has_alpha and format == "webp" else "RGB")
        buffer = io.BytesIO()
        image.save(buffer, format=format, quality=quality)
    return buffer.getvalue()


def channel(path: Path, which: str) -> bytes:
    """As PNG: `rgb` the picture without its transparency, `a` the transparency alone."""
    from_file = _open(path, path.name)
    from PIL import Image

    with from_file as image:
        if which == "rgb":
            picture = image.convert("RGBA").convert("RGB")
        else:
            alpha = image.convert("RGBA").getchannel("A")
            picture = Image.new("RGBA", image.size)
            picture.putalpha(alpha)
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
    return buffer.getvalue()


def apply_mask(original: Path, mask: Path, target: Path) -> None:
    """Write to `target` the original with the mask's transparency; its text (prompt, workflow) stays."""
    picture = _open(original, original.name)
    from PIL import PngImagePlugin

    texts = PngImagePlugin.PngInfo()
    for key, value in getattr(picture, "text", {}).items():
        texts.add_text(key, value)
    with picture, _open(mask, "The mask") as drawn:
        alpha = drawn.convert("RGBA").getchannel("A")
        if alpha.size != picture.size:
            raise Refused(
                400,
                f"The mask is {alpha.width}x{alpha.height} but {original.name} is "
                f"{picture.width}x{picture.height}; they must be of one size.",
            )
        composed: Image.Image = picture.convert("RGBA")
        composed.putalpha(alpha)
        with usable_name():
            composed.save(target, format="PNG", compress_level=4, pnginfo=texts)
