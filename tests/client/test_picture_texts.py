"""Pictures that ComfyUI saved carry their workflow; broken ones are named."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from comfy_dist.client.picture_texts import picture_texts
from comfy_dist.client.workflow_file import read
from comfy_dist.errors import UsageError
from tests.nodes.cases._saving import PROMPT

#: Written by a ComfyUI: see tests/nodes/record_files.py.
ANIMATIONS = sorted(
    path
    for path in (Path(__file__).parents[1] / "nodes/recorded/files").iterdir()
    if path.suffix in (".png", ".webp")
)


@pytest.mark.parametrize("packed", [False, True])
def test_pictures_carry_workflows_in_every_kind_of_text(tmp_path: Path, packed: bool) -> None:
    prompt = '{"1": {"class_type": "Ü", "inputs": {}}}'.encode()
    text = b"prompt\0" + (b"\1\0" if packed else b"\0\0") + b"\0\0" + (zlib.compress(prompt) if packed else prompt)
    chunk = struct.pack(">I4s", len(text), b"iTXt") + text + b"\0\0\0\0"
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    assert read(str(tmp_path / "a.png")).prompt == {"1": {"class_type": "Ü", "inputs": {}}}


@pytest.mark.parametrize("path", ANIMATIONS, ids=lambda path: path.name)
def test_animations_that_comfyui_saved_carry_their_prompt(path: Path) -> None:
    assert read(str(path)).prompt == PROMPT


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_read_in_both_byte_orders(order: str) -> None:
    text = b'prompt:{"1": {}}\0'
    entry = struct.pack(f"{order}HHII", 0x0110, 2, len(text), 26)
    tiff = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, 1) + entry + bytes(4) + text
    webp = b"RIFF\0\0\0\0WEBP" + b"ODD \1\0\0\0x\0" + b"EXIF" + struct.pack("<I", len(tiff)) + tiff
    assert picture_texts(webp) == {"prompt": b'{"1": {}}'}


def test_pictures_without_a_workflow_are_named(tmp_path: Path) -> None:
    for name in ("a.png", "a.webp"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
        with pytest.raises(UsageError, match=f"{name} carries no workflow"):
            read(str(tmp_path / name))


@settings(deadline=None)
@given(st.sampled_from(ANIMATIONS), st.data())
def test_whatever_a_picture_holds_its_texts_are_looked_for_to_the_end(path: Path, data: st.DataObject) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(12, len(content) - 1))] = data.draw(st.integers(0, 255))
    texts = picture_texts(bytes(content[: data.draw(st.integers(12, len(content)))]))
    assert texts is not None
    assert all(isinstance(text, bytes) for text in texts.values())
