"""Safetensors: what is written is read again, what is broken is named, whatever it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfy_dist.nodes.safetensors import MAX_HEADER_BYTES, BrokenFile, NotStorable, encode, load

DTYPES = (
    torch.bool,
    torch.uint8,
    torch.int16,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float32,
    torch.int64,
    torch.float64,
)
ANY_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def bits(tensor: torch.Tensor) -> list[int]:
    flat: list[int] = tensor.contiguous().flatten().view(torch.uint8).tolist()
    return flat


def file_of(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(dtype: str = "F32", shape: Any = (2,), begin: Any = 0, end: Any = 8) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@ANY_FOLDER
@given(
    st.dictionaries(
        st.text(max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=4)),
        max_size=5,
    ),
    st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3),
)
def test_what_is_written_is_read(
    tmp_path: Path,
    described: dict[str, tuple[torch.dtype, list[int]]],
    metadata: dict[str, str] | None,
) -> None:
    tensors = {name: (torch.rand(shape) * 2).to(dtype) for name, (dtype, shape) in described.items()}
    path = tmp_path / "a.safetensors"
    path.write_bytes(encode(tensors, metadata))
    loaded, words = load(path)
    assert words == (metadata or {})
    assert loaded.keys() == tensors.keys()
    for name, wanted in tensors.items():
        assert loaded[name].dtype == wanted.dtype
        assert loaded[name].shape == wanted.shape
        assert bits(loaded[name]) == bits(wanted)


def test_any_layout_of_memory_is_written_in_order(tmp_path: Path) -> None:
    turned = torch.arange(12.0).reshape(3, 4).T
    (tmp_path / "a").write_bytes(encode({"turned": turned, "part": turned[1:3, ::2]}))
    loaded, _ = load(tmp_path / "a")
    assert torch.equal(loaded["turned"], turned)
    assert torch.equal(loaded["part"], turned[1:3, ::2])


def test_tensors_lie_at_multiples_of_their_width() -> None:
    content = encode({"a": torch.zeros(3, dtype=torch.uint8), "b": torch.zeros(2), "c": torch.zeros(1).double()})
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    assert [header[name]["data_offsets"][0] for name in "cba"] == [0, 8, 16]


def test_a_type_that_the_format_lacks_is_named() -> None:
    with pytest.raises(NotStorable, match=r"no tensors of torch\.complex128; convert 'a' to float32"):
        encode({"a": torch.zeros(2, dtype=torch.complex128)})


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "short": b"\x08\0\0",
    "header beyond the end": (1000).to_bytes(8, "little") + b"{}",
    "header of exabytes": b"\xff" * 8 + b"{}",
    "header too long": (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}",
    "not JSON": file_of(b"{nothing"),
    "not text": file_of(b"\xff\xfe{}"),
    "deep": file_of(b'{"a":' * 100_000),
    "a list": file_of([]),
    "a name twice": file_of(b'{"a":1,"a":2}'),
    "tensor is a number": file_of({"a": 3}),
    "tensor without shape": file_of({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)),
    "unknown type": file_of({"a": tensor("F4")}, bytes(8)),
    "pickle": file_of({"a": tensor("object")}, bytes(8)),
    "negative shape": file_of({"a": tensor(shape=(-1, -2))}, bytes(8)),
    "shape of fractions": file_of({"a": tensor(shape=(2.0,))}, bytes(8)),
    "shape beyond counting": file_of({"a": tensor(shape=(0, 2**40, 2**40), end=0)}),
    "shape of petabytes": file_of({"a": tensor(shape=(2**40,), end=2**42)}, bytes(8)),
    "too short for its shape": file_of({"a": tensor(end=4)}, bytes(4)),
    "offsets backwards": file_of({"a": tensor(begin=8, end=0)}, bytes(8)),
    "offsets before the start": file_of({"a": tensor(begin=-8, end=0)}, bytes(8)),
    "offsets of text": file_of({"a": tensor(begin="0")}, bytes(8)),
    "data missing": file_of({"a": tensor()}, bytes(7)),
    "data left over": file_of({"a": tensor()}, bytes(9)),
    "a gap": file_of({"a": tensor(), "b": tensor(begin=16, end=24)}, bytes(24)),
    "an overlap": file_of({"a": tensor(), "b": tensor(begin=4, end=12)}, bytes(12)),
    "metadata of numbers": file_of({"__metadata__": {"a": 1}}),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.latent").write_bytes(content)
    with pytest.raises(BrokenFile, match=r"^bad\.latent is not a safetensors file: .+\.$"):
        load(tmp_path / "bad.latent")


@ANY_FOLDER
@given(st.data())
def test_a_file_with_any_byte_changed_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(encode({"a": torch.ones(2, 3), "b": torch.zeros(1, dtype=torch.int16)}, {"k": "v"}))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    (tmp_path / "a").write_bytes(content[:cut])
    try:
        tensors, _ = load(tmp_path / "a")
    except BrokenFile:
        return
    assert sum(each.nbytes for each in tensors.values()) <= len(content)
