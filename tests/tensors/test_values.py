"""Values become JSON and come back the same; stretches and codecs keep every bit that they promise to keep."""

from __future__ import annotations

import json
import math
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.tensors import codecs, zstd
from comfy_dist.tensors.content import content_of
from comfy_dist.tensors.errors import CannotTravel, NotPulled, WayFailed
from comfy_dist.tensors.memory import DTYPES, bytes_of, empty
from comfy_dist.tensors.packing import INLINE_AT_ONCE, MOST_AT_ONCE, pack, refs, unpack
from comfy_dist.tensors.rates import Rates
from comfy_dist.tensors.ref import TensorRef
from comfy_dist.tensors.slicing import elements, stretches
from tests.tensors.planes import same_bits


class Shelf:
    """Holds tensors by their number."""

    def __init__(self) -> None:
        self.tensors: list[torch.Tensor] = []

    def hold(self, tensor: torch.Tensor) -> TensorRef:
        self.tensors.append(tensor)
        names = dict.fromkeys(("device", "host", "address", "via", "token"), "")
        dtype = str(tensor.dtype).removeprefix("torch.")
        return TensorRef(
            id=str(len(self.tensors) - 1),
            shape=tuple(tensor.shape),
            dtype=dtype,
            nbytes=tensor.nbytes,
            expires=0,
            **names,
        )

    def pulled(self, ref: TensorRef) -> torch.Tensor:
        return self.tensors[int(ref.id)]


def there_and_back(value: Any) -> Any:
    shelf = Shelf()
    return unpack(json.loads(json.dumps(pack(value, shelf.hold), allow_nan=False)), shelf.pulled)


KEYS = st.one_of(st.text(max_size=4), st.integers(), st.booleans(), st.none(), st.just("$"))
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=3000)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_plain_values_come_back_the_same(value: Any) -> None:
    # repr tells types apart, and a minus zero from a zero; NaN equals nothing.
    assert repr(there_and_back(value)) == repr(value)


@given(PLAIN)
def test_equal_values_have_equal_content(value: Any) -> None:
    assert content_of(value) == content_of(there_and_back(value))


def test_content_tells_bits_shapes_and_dtypes_apart() -> None:
    base = torch.zeros(2, 600)
    others = [
        base,
        base.view(600, 2),
        base.to(torch.float64),
        -base,
        torch.full_like(base, math.nan),
        [base],
        (base,),
        {"a": base},
        base.numpy(),
        bytes(base.nbytes),
    ]
    assert len({content_of(value) for value in others}) == len(others)
    assert content_of(torch.rand(600, 4).T.clone()) != content_of(base)
    wide = torch.rand(600, 4)
    assert content_of(wide.T) == content_of(wide.T.contiguous())


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (0, 4, 4), (1,), (3, 5), (600, 3)])
def test_tensors_of_every_dtype_come_back(name: str, shape: tuple[int, ...]) -> None:
    size = math.prod(shape) * DTYPES[name].itemsize
    tensor = torch.randint(0, 2, (size,), dtype=torch.uint8).view(DTYPES[name]).reshape(shape)
    assert same_bits(there_and_back(tensor), tensor)


@pytest.mark.parametrize("number", [2**53, -(2**64), 10**6000], ids=["first", "negative", "long"])
def test_large_numbers_come_back(number: int) -> None:
    assert there_and_back(number) == number


def test_nothing_is_looked_for_without_end() -> None:
    packed: Any = {"$": "tensor", "ref": {}}
    for _ in range(900):
        packed = [packed]
    for look in (lambda: list(refs(packed)), lambda: unpack(packed, Shelf().pulled)):
        with pytest.raises(NotPulled, match="deep"):
            look()


def test_arrays_and_bytes_come_back() -> None:
    for array in (
        np.arange(5000)[::-2],
        np.zeros((0, 3), np.float32),
        np.array(2.5),
        np.arange(10, dtype=">i4")[:0],
    ):
        try:
            found = there_and_back(array)
        except CannotTravel:
            assert array.dtype.byteorder == ">"
            continue
        assert found.dtype == array.dtype
        assert np.array_equal(found, array)
    assert there_and_back(b"\0\xff" * 5000) == b"\0\xff" * 5000


def test_a_tensor_that_occurs_twice_is_held_once() -> None:
    tensor, shelf = torch.rand(5, 1000), Shelf()
    packed = pack({"a": tensor, "b": [tensor, tensor[1:]], "c": np.ones(5000), "d": np.zeros(5000)}, shelf.hold)
    assert len(shelf.tensors) == 4
    found = unpack(packed, shelf.pulled)
    assert found["a"] is found["b"][0]
    assert not np.array_equal(found["c"], found["d"])


def test_what_is_pulled_at_once_is_written_out_within_limits() -> None:
    shelf = Shelf()
    rows = [torch.full((INLINE_AT_ONCE // 4,), float(row)) for row in range(20)]
    assert sum(row.nbytes for row in rows) > MOST_AT_ONCE
    packed = json.loads(json.dumps(pack(rows, shelf.hold, at_once=True)))
    assert len(shelf.tensors) == len(rows) - MOST_AT_ONCE // INLINE_AT_ONCE
    came = unpack(packed, lambda ref: shelf.tensors[int(ref.id)])
    assert all(same_bits(row, other) for row, other in zip(rows, came, strict=True))
    pack(rows[:1], shelf.hold)
    pack(torch.zeros(INLINE_AT_ONCE // 4 + 1), shelf.hold, at_once=True)
    assert len(shelf.tensors) == len(rows) - MOST_AT_ONCE // INLINE_AT_ONCE + 2


def test_what_contains_itself_cannot_travel() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(CannotTravel, match="deep"):
        pack(endless, Shelf().hold)


@pytest.mark.parametrize(
    "value", [{1, 2}, object(), lambda: None, 1j, range(3), np.array(["x"]), np.array([object()])]
)
def test_other_things_cannot_travel(value: Any) -> None:
    with pytest.raises(CannotTravel, match=r"the value\['x'\]\[1\] is a"):
        pack({"x": [0, value]}, Shelf().hold)


@pytest.mark.parametrize(
    "packed",
    [
        {"$": "tensor"},
        {"$": "tensor", "ref": {}},
        {"$": "tensor", "dtype": "float32", "shape": [2**60], "data": "AAAA"},
        {"$": "tensor", "dtype": "float32", "shape": [-1, -1], "data": "AAAAAA=="},
        {"$": "tensor", "dtype": "float32", "shape": [1], "data": "é"},
        {"$": "tensor", "dtype": "nothing", "shape": [1], "data": "AAAAAA=="},
        {"$": "array", "tensor": 5},
        {"$": "bytes", "tensor": "x"},
        {"$": "dict", "items": [[1]]},
        {"$": "dict", "items": [[[1], 2]]},
        {"$": "int", "text": "x"},
        {"$": "tensor", "dtype": "float32", "shape": [0, 2**62, 2**62], "data": ""},
        {"$": "tensor", "dtype": "float32", "shape": [10**18] * 10**5, "data": "AAAA"},
        {"$": "float", "text": "x"},
        {"$": "os.system", "items": ["true"]},
        {"$": 5},
        object(),
    ],
)
def test_what_is_no_packed_value_is_refused(packed: Any) -> None:
    with pytest.raises(NotPulled):
        unpack([packed], Shelf().pulled)


@given(st.data())
def test_a_stretch_is_what_flattening_would_give(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    tensor = torch.arange(math.prod(shape)).view(shape)
    tensor = tensor.permute(data.draw(st.permutations(range(len(shape)))))
    for dimension in range(tensor.dim()):
        tensor = tensor[(slice(None),) * dimension + (slice(None, None, data.draw(st.integers(1, 2))),)]
    flat = tensor.reshape(-1)
    first = data.draw(st.integers(0, flat.numel() - 1))
    last = data.draw(st.integers(first + 1, flat.numel()))
    found = elements(tensor, first, last)
    assert found.is_contiguous()
    assert torch.equal(found, flat[first:last])
    size = data.draw(st.integers(1, flat.numel() + 1))
    assert torch.equal(torch.cat(list(stretches(tensor, size))), flat)


def test_large_memory_is_like_any_other() -> None:
    tensor = empty((3, 2**20), torch.float32)
    tensor.fill_(2)
    assert tensor.shape == (3, 2**20)
    assert tensor.sum() == 6 * 2**20
    bytes_of(tensor)[:4] = b"\0\0\0\0"
    assert tensor[0, 0] == 0


IMAGE = (8, 16, 3)
LEVELS = torch.randint(0, 256, (math.prod(IMAGE),)).sort().values


@pytest.mark.parametrize("codec", codecs.CODECS)
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_codecs_keep_every_bit_unless_lossy(codec: str, dtype: torch.dtype) -> None:
    noise = torch.randint(0, 2 if dtype is torch.bool else 256, (math.prod(IMAGE) * dtype.itemsize,))
    for content in (noise.to(torch.uint8), torch.zeros_like(noise).to(torch.uint8)):
        piece = content.view(dtype)
        kind, data = codecs.encode(piece, codec, IMAGE, lossy=False)
        assert len(data) <= piece.nbytes
        into = torch.empty_like(piece)
        codecs.decode(kind, data, into)
        assert same_bits(into, piece)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("image", [IMAGE, (16, 24, 1), (8, 12, 4)])
def test_png_is_taken_for_what_it_keeps(image: tuple[int, int, int], dtype: torch.dtype) -> None:
    piece = (LEVELS.to(torch.float32) / 255).to(dtype)
    kind, data = codecs.encode(piece, "png", image, lossy=False)
    assert data.startswith(b"\x89PNG")
    into = torch.empty_like(piece)
    codecs.decode(kind, data, into)
    assert same_bits(into, piece)
    for value in (0.5, -0.0, 1.5, math.nan, math.inf):
        other = piece.clone()
        other[7] = value
        assert not codecs.encode(other, "png", image, lossy=False)[1].startswith(b"\x89PNG")
        kind, data = codecs.encode(other, "png", image, lossy=True)
        assert data.startswith(b"\x89PNG")
        codecs.decode(kind, data, into)
        assert torch.equal(into[8:], piece[8:])


def test_halves_are_taken_for_what_they_keep_or_may_lose() -> None:
    noise = torch.rand(1000)
    for piece, lossy, size in ((noise, True, 2000), (noise.half().float(), False, 2000)):
        kind, data = codecs.encode(piece, "fp16", None, lossy)
        assert len(data) == size
        into = torch.empty_like(piece)
        codecs.decode(kind, data, into)
        assert same_bits(into, piece.half().float())
    assert len(codecs.encode(noise, "fp16", None, lossy=False)[1]) > 2000


def test_a_piece_that_grows_without_end_is_refused() -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)
    for kind, data in ((1, bomb), (4, zstd.compress(memoryview(bytes(50_000_000))))):
        with pytest.raises(WayFailed, match="not as many bytes"):
            codecs.decode(kind, data, torch.empty(1000))


def test_a_frame_that_wants_a_large_window_is_refused() -> None:
    """It would have to be set aside before anything of it is known."""
    from backports.zstd import CompressionParameter, ZstdCompressor  # Python's own from 3.14 on

    writer = ZstdCompressor(options={CompressionParameter.window_log: 27})
    data = writer.compress(bytes(2**20)) + writer.flush()
    with pytest.raises(WayFailed, match="cannot be read"):
        codecs.decode(4, data, torch.empty(2**18))


def test_without_zstd_at_one_end_it_is_zlib(monkeypatch: pytest.MonkeyPatch) -> None:
    piece = torch.zeros(1000)
    kind, data = codecs.encode(piece, "zstd", None, lossy=False)
    assert codecs.understood("auto", True) == codecs.understood("zstd", True) == "zstd"
    assert codecs.understood("auto", False) == codecs.understood("zstd", False) == "zlib"
    assert codecs.understood("png", True) == "png"
    monkeypatch.setattr(zstd, "AVAILABLE", False)
    assert codecs.understood("auto", True) == "zlib"
    assert codecs.encode(piece, "zstd", None, lossy=False) == codecs.encode(piece, "zlib", None, lossy=False)
    with pytest.raises(WayFailed, match="has no zstd"):
        codecs.decode(kind, data, piece)


@pytest.mark.parametrize("kind", [2, 3])
def test_whole_numbers_are_not_written_as_pictures_or_halves(kind: int) -> None:
    with pytest.raises(WayFailed, match="int64"):
        codecs.decode(kind, bytes(2000), torch.empty(1000, dtype=torch.int64))


def test_images_too_large_for_a_piece_are_not_one() -> None:
    assert codecs.image_shape((2, 4096, 4096, 3)) == (4096, 4096, 3)
    assert codecs.image_shape((2, 2**16, 2**16, 3)) is None


@pytest.mark.parametrize(("codec", "fast"), [("zlib", 100e6), ("zstd", 1e9)])
def test_a_codec_is_taken_where_it_was_seen_to_shorten_transfers(codec: str, fast: float) -> None:
    rates = Rates()
    size = 2**24
    assert rates.best("a", size, codec) == "raw"
    rates.seen("a", "raw", size, size / fast)
    assert rates.best("a", size, codec) == "raw", "the link is fast"
    rates.seen("b", "raw", size, size / 10e6)
    assert rates.best("b", size, codec) == codec
    rates.seen("b", codec, size, size / 20e6)
    assert rates.best("b", size, codec) == codec
    assert rates.best("b", 100, codec) == "raw", "not worth it"
    rates.seen("b", codec, size, size / 1e6)
    rates.seen("b", codec, size, size / 1e6)
    assert rates.best("b", size, codec) == "raw", "it was seen to be slower"
    assert rates.best("c", size, codec) == "raw", "nothing is known of others"
