"""A reference to a tensor that another process holds, and the way to a process that answers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from comfy_dist.errors import text_of
from comfy_dist.tensors.errors import NotPulled
from comfy_dist.tensors.memory import DTYPES

_MAX_DIMENSIONS = 64
#: More than any memory has, and what torch counts bytes with; complex128 has the largest items.
_BYTES = 2**63
_LARGEST_ITEM = 16


class TensorRef(BaseModel):
    """Enough to pull a tensor, or some rows of it, from its holder. Checked before anything relies on it."""

    model_config = ConfigDict(frozen=True, strict=True)

    #: Part of the path that it is asked for under.
    id: str = Field(pattern=r"^[0-9a-f]{1,64}$")
    shape: tuple[int, ...]
    #: As in comfy_dist.tensors.memory.DTYPES.
    dtype: str
    nbytes: int
    #: Where the holder has it: "cpu", "cuda:0".
    device: str
    #: The boot id of the holder's machine; empty if it cannot be told.
    host: str
    #: The holder's HTTP address; empty if it has none.
    address: str
    #: WORKER/LANE by which the holder is reached through the broker; empty if it is not.
    via: str
    token: str
    #: Unix time at which the token ends, by the holder's clock.
    expires: float
    #: Whether the holder can write zstd.
    zstd: bool = False

    def to_json(self) -> dict[str, Any]:
        return self.model_dump() | {"shape": list(self.shape)}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Raises NotPulled for what is no reference or contradicts itself."""
        try:
            if isinstance(data, dict) and isinstance(data.get("shape"), list):
                data = data | {"shape": tuple(data["shape"])}
            ref = cls.model_validate(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise NotPulled(f"This is no reference to a tensor: {where}: {first['msg']}.") from None
        if ref.dtype not in DTYPES:
            raise NotPulled(f"A reference names the dtype {text_of(ref.dtype)!r}, which this torch does not have.")
        if not is_shape(ref.shape):
            raise NotPulled(f"A reference names the shape {text_of(list(ref.shape))}, which no tensor has.")
        if ref.nbytes != prod(ref.shape) * DTYPES[ref.dtype].itemsize:
            raise NotPulled(
                f"A reference says {ref.nbytes} bytes, but {ref.dtype} of shape {list(ref.shape)} has others."
            )
        return ref

    @property
    def holder(self) -> str:
        """As sentences name it."""
        return self.via or self.address or "a process without an address"

    def rows(self, start: int | None, stop: int | None) -> tuple[int, int] | None:
        """The rows of dimension 0 that are meant; None for the whole. Raises NotPulled if it has not got them."""
        return rows_of(self.shape, start, stop)

    def shape_of(self, rows: tuple[int, int] | None) -> tuple[int, ...]:
        return self.shape if rows is None else (rows[1] - rows[0], *self.shape[1:])

    def nbytes_of(self, rows: tuple[int, int] | None) -> int:
        return self.nbytes if rows is None else prod(self.shape_of(rows)) * DTYPES[self.dtype].itemsize


def is_shape(sizes: Sequence[Any]) -> bool:
    """Whether a tensor could have it, if memory had no end; sizes may be anything that was in JSON."""
    if len(sizes) > _MAX_DIMENSIONS or any(type(size) is not int or not 0 <= size < _BYTES for size in sizes):
        return False
    # Dimensions of none too: strides count the others.
    return bool(prod(size or 1 for size in sizes) * _LARGEST_ITEM < _BYTES)


def rows_of(shape: tuple[int, ...], start: int | None, stop: int | None) -> tuple[int, int] | None:
    """Raises NotPulled for rows that a tensor of this shape has not got."""
    if start is None and stop is None:
        return None
    if not shape:
        raise NotPulled("Rows of a tensor without dimensions were asked for.")
    first, last = start or 0, shape[0] if stop is None else stop
    if not 0 <= first <= last <= shape[0]:
        raise NotPulled(f"Rows {first} to {last} were asked for of a tensor with {shape[0]}.")
    return first, last
