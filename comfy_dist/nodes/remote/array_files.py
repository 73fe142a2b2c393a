"""Numpy's files, .npy and .npz, from memory: an array of numbers, and nothing that is executed or only promised.

The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
import lzma
import math
import tokenize
import zipfile
import zlib
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from comfy_dist.nodes.safetensors import BrokenFile

MAGIC, ZIP_MAGIC = b"\x93NUMPY", b"PK\x03\x04"
#: Names that the array of a .npz may have where it has several.
_NAMES = ("samples", "latent_tensor", "arr_0")
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
#: What numpy raises at headers that are none.
_NO_HEADER = (ValueError, LookupError, TypeError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError)
#: What zipfile raises at files that are broken, encrypted or packed in a way it does not know.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
)


def array_in(body: bytes, called: str, most: int) -> npt.NDArray[Any]:
    """The array of a .npy, or the one of a .npz that unpacks to `most` bytes at most.

    It may be read-only and of any byte order. Raises BrokenFile, which calls the file so.
    """
    return _array(_unzipped(body, called, most) if body.startswith(ZIP_MAGIC) else body, called)


def _array(body: bytes, called: str) -> npt.NDArray[Any]:
    file = io.BytesIO(body)
    try:
        shape, by_columns, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
    except _NO_HEADER as error:
        raise BrokenFile(f"{called} is not a numpy file that can be read.") from error
    if dtype.hasobject or dtype.kind not in "biuf":
        _refuse(called, f"its array is of {dtype}, not of numbers")
    # As numpy reads it, memory is taken by what the header says.
    length = math.prod(shape) * dtype.itemsize
    if any(not 0 <= side < 2**31 for side in shape) or len(shape) > 8 or length != len(body) - file.tell():
        _refuse(called, "its array is not as long as its shape")
    flat: npt.NDArray[Any] = np.frombuffer(body, dtype, offset=file.tell())
    return flat.reshape(shape, order="F" if by_columns else "C")


def _unzipped(body: bytes, called: str, most: int) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            names = archive.namelist()
            known = [f"{name}.npy" for name in _NAMES if f"{name}.npy" in names]
            if not known and len(names) != 1:
                _refuse(called, f"it has {len(names)} arrays, none of them named {', '.join(_NAMES)}")
            # Not as much as it says it is, but as much as comes.
            with archive.open(known[0] if known else names[0]) as member:
                unpacked = member.read(most + 1)
    except _BROKEN as error:
        raise BrokenFile(f"{called} is not a numpy archive that can be read.") from error
    if len(unpacked) > most:
        _refuse(called, f"it unpacks to more than {most / 2**20:.4g} MB")
    return unpacked


def _refuse(called: str, why: str) -> NoReturn:
    raise BrokenFile(f"{called} is not a numpy file of a latent: {why}.")
