"""The images that come back from a remote, as one batch."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import torch

from comfy_dist.nodes.core.inputs import UnusableInput
from comfy_dist.nodes.core.load import frames, in_eight_bits
from comfy_dist.nodes.core.pictures import pixels

#: Pixels of one picture, and of all that come together: a small file may have many.
MOST_PIXELS, MOST_TOGETHER = 178_956_970, 2**30
#: Those whose channels are an image's.
_MODES = frozenset({"L", "LA", "RGB", "RGBA"})


def images_in(files: Iterable[bytes]) -> list[torch.Tensor]:
    """As `image_in`; of more pixels than are taken nothing more is read."""
    images: list[torch.Tensor] = []
    pixels_read = 0
    for file in files:
        images.append(image_in(file))
        pixels_read += images[-1].shape[1] * images[-1].shape[2]
        if pixels_read > MOST_TOGETHER:
            raise UnusableInput(f"The remote's images have more than {MOST_TOGETHER:,} pixels together.")
    return images


def image_in(body: bytes) -> torch.Tensor:
    """float32 [1, H, W, C] of a PNG, with the channels it has. Raises UnusableInput for what is no picture."""
    picture = in_eight_bits(next(iter(frames(io.BytesIO(body), "The remote's image", MOST_PIXELS))))
    found = pixels(picture if picture.mode in _MODES else picture.convert("RGB"))
    return (found[..., None] if found.ndim == 2 else found)[None]


def one_batch(images: Sequence[torch.Tensor], whose: str) -> torch.Tensor:
    """All of images [B, H, W, C] in order. Raises UnusableInput where there are none, or of several sizes."""
    sizes = list(dict.fromkeys(tuple(image.shape[1:]) for image in images))
    if len(sizes) == 1:
        return images[0] if len(images) == 1 else torch.cat(list(images))
    if not sizes:
        raise UnusableInput(f"{whose} has made no image.")
    named = " and ".join(f"{size[1]}x{size[0]} with {size[2]} channels" for size in sizes[:2])
    raise UnusableInput(f"{whose} has made images of several sizes ({named}), which are no batch.")
