"""How a tensor's bytes are written on a link: piece by piece, each as small as its codec makes it.

| codec | what it does | exact |
|---|---|---|
| raw | the bytes as they are | yes |
| zlib | bytes of equal significance beside each other, then zlib's fastest level | yes |
| zstd | the same with zstd, where both ends have it (zstd.py); else zlib | yes |
| png | one PNG of 8 bits for each image of a batch | if all values are k/255; else zlib, unless lossy is allowed |
| fp16 | half precision | if all values have it; else zlib, unless lossy is allowed |

A piece that its codec does not make smaller is sent raw.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from math import prod

import numpy as np
import torch
from PIL import Image

from comfy_dist.tensors import zstd
from comfy_dist.tensors.errors import WayFailed
from comfy_dist.tensors.memory import bytes_of

CODECS = ("raw", "zlib", "zstd", "png", "fp16")
_RAW, _ZLIB, _PNG, _FP16, _ZSTD = range(5)
#: Of a float tensor's images: width and height before channels.
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_FLOATS = (torch.float32, torch.float64)
#: Values; fewer pixels than PIL takes for a decompression bomb.
_LARGEST_IMAGE = 2**26


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Height, width and channels of each image in a batch `[B,H,W,C]` or of masks `[B,H,W]`; None for others, and
    for images so large that they are better sent in pieces."""
    if 0 in shape or prod(shape[1:]) > _LARGEST_IMAGE:
        return None
    if len(shape) == 4 and shape[3] in _MODES:
        return shape[1], shape[2], shape[3]
    if len(shape) == 3:
        return shape[1], shape[2], 1
    return None


def piece_elements(shape: tuple[int, ...], itemsize: int, codec: str, size: int) -> int:
    """Elements in each piece but the last: `size` bytes, or one image for png. The same at both ends."""
    image = image_shape(shape) if codec == "png" else None
    return prod(image) if image else size // itemsize


def encode(piece: torch.Tensor, codec: str, image: tuple[int, int, int] | None, lossy: bool) -> tuple[int, bytes]:
    """What a flat contiguous piece on the CPU becomes: how it was written, and the bytes."""
    found: tuple[int, bytes] | None = None
    if codec == "png" and image and piece.dtype in _FLOATS and piece.numel() == prod(image):
        found = _png(piece, image, lossy)
    elif codec == "fp16" and piece.dtype in _FLOATS:
        found = _half(piece, lossy)
    if codec == "zstd" and zstd.AVAILABLE:
        found = _ZSTD, zstd.compress(_shuffled(piece))
    elif found is None and codec != "raw":
        found = _ZLIB, zlib.compress(_shuffled(piece), 1)
    if found is None or len(found[1]) >= piece.nbytes:
        found = _RAW, bytes(bytes_of(piece))
    return found


def understood(codec: str, by_holder: bool) -> str:
    """What to ask a holder for, who has zstd or not: of `auto` and of zstd the best that both ends have."""
    if codec in ("auto", "zstd"):
        return "zstd" if by_holder and zstd.AVAILABLE else "zlib"
    return codec


def decode(kind: int, data: bytes | bytearray | memoryview, into: torch.Tensor) -> None:
    """Fill a flat contiguous piece on the CPU. Raises WayFailed for bytes that do not give exactly that."""
    if kind in (_PNG, _FP16) and into.dtype not in _FLOATS:
        raise WayFailed(f"A piece of a tensor is written in a way that {into.dtype} is not.")
    try:
        _DECODERS[kind](data, into)
    except (KeyError, ValueError, OSError, SyntaxError, zlib.error, Image.DecompressionBombError) as error:
        raise WayFailed(f"A piece of a tensor cannot be read ({error}).") from None


def _same(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Bit for bit: a minus zero is not a zero."""
    return torch.equal(ours.view(torch.uint8), theirs.view(torch.uint8))


def _png(piece: torch.Tensor, image: tuple[int, int, int], lossy: bool) -> tuple[int, bytes] | None:
    levels = (piece.nan_to_num(0, 1, 0).clamp(0, 1) * 255).round().to(torch.uint8)
    if not lossy and not _same(_from_levels(levels, piece.dtype), piece):
        return None
    height, width, channels = image
    picture = levels.view(height, width) if channels == 1 else levels.view(height, width, channels)
    file = io.BytesIO()
    Image.fromarray(picture.numpy()).save(file, "PNG", compress_level=1)
    return _PNG, file.getvalue()


def _from_levels(levels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """As images are read everywhere: divided in single precision."""
    return (levels.to(torch.float32) / 255).to(dtype)


def _half(piece: torch.Tensor, lossy: bool) -> tuple[int, bytes] | None:
    half = piece.to(torch.float16)
    exact = _same(half.to(piece.dtype), piece)
    return (_FP16, bytes(bytes_of(half))) if lossy or exact else None


def _shuffled(piece: torch.Tensor) -> memoryview:
    flat = np.frombuffer(bytes_of(piece), dtype=np.uint8)
    return np.ascontiguousarray(flat.reshape(-1, piece.itemsize).T).data


def _read_raw(data: bytes | bytearray | memoryview, into: torch.Tensor) -> None:
    bytes_of(into)[:] = data


def _read_zlib(data: bytes | bytearray | memoryview, into: torch.Tensor) -> None:
    # One byte more than there should be tells of too much; what would be a bomb ends there.
    _unshuffle(zlib.decompressobj().decompress(data, into.nbytes + 1), into)


def _read_zstd(data: bytes | bytearray | memoryview, into: torch.Tensor) -> None:
    _unshuffle(zstd.decompress(data, into.nbytes + 1), into)


def _unshuffle(data: bytes, into: torch.Tensor) -> None:
    flat = np.frombuffer(data, dtype=np.uint8)
    if flat.size != into.nbytes:
        raise ValueError("not as many bytes as it has")
    target = np.frombuffer(bytes_of(into), dtype=np.uint8).reshape(-1, into.itemsize)
    np.copyto(target, flat.reshape(into.itemsize, -1).T)


def _read_png(data: bytes | bytearray | memoryview, into: torch.Tensor) -> None:
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        if picture.width * picture.height * len(picture.getbands()) != into.numel():
            raise ValueError("not as many pixels as it has")
        levels = torch.from_numpy(np.array(picture)).reshape(-1)
    into.copy_(_from_levels(levels, into.dtype))


def _read_half(data: bytes | bytearray | memoryview, into: torch.Tensor) -> None:
    half = torch.frombuffer(bytearray(data), dtype=torch.float16)
    if half.numel() != into.numel():
        raise ValueError("not as many values as it has")
    into.copy_(half)


_DECODERS: dict[int, Callable[[bytes | bytearray | memoryview, torch.Tensor], None]] = {
    _RAW: _read_raw,
    _ZLIB: _read_zlib,
    _PNG: _read_png,
    _FP16: _read_half,
    _ZSTD: _read_zstd,
}
