"""Keys for ComfyUIs elsewhere: whom each is for, and files that say it wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfy_dist.cli.engines import reaching_out
from comfy_dist.errors import UsageError
from comfy_dist.outside.keys import VARIABLE, key_for, read
from comfy_dist.settings import ComfyuiWorkerSettings

KEYS = """
# A remark.
https://gpu.example.org\tkey-a
http://10.0.0.5:8188/ key-b
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(KEYS)
    return file


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://gpu.example.org", "key-a"),
        ("https://GPU.example.org:443/comfy/", "key-a"),
        ("http://10.0.0.5:8188", "key-b"),
        ("http://gpu.example.org", None),
        ("https://gpu.example.org:8443", None),
        ("https://gpu.example.org.evil.example", None),
        ("https://gpu.example.org@evil.example", None),
        ("https://evil.example/https://gpu.example.org", None),
        ("https://user:word@gpu.example.org", None),
        ("http://10.0.0.5", None),
    ],
)
def test_a_key_is_for_one_scheme_host_and_port(
    file: Path, monkeypatch: pytest.MonkeyPatch, url: str, key: str | None
) -> None:
    settings = ComfyuiWorkerSettings(remote_keys=file)
    assert reaching_out(settings) == {VARIABLE: str(file)}
    monkeypatch.setenv(VARIABLE, str(file))
    assert key_for(url) == key


def test_without_a_file_there_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert (key_for("https://gpu.example.org"), reaching_out(ComfyuiWorkerSettings())) == (None, {})


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("https://x.example", "is not ADDRESS KEY"),
        ("https://x.example a key-of-mine", "is not ADDRESS KEY"),
        ("https://x.example k\u00e9y-of-mine", "is not ADDRESS KEY"),
        ("x.example key-of-mine", "'x.example' is no address"),
        ("https://x.example/comfy key-of-mine", "is no address such as https://gpu.example.org:8188"),
        ("https://me:word@x.example key-of-mine", "'https://x.example' is no address"),
        ("https://x.example:99999 key-of-mine", "is no address"),
        ("ftp://x.example key-of-mine", "is no address"),
    ],
)
def test_a_line_that_is_none_is_named_without_its_key(file: Path, line: str, sentence: str) -> None:
    file.write_text(f"{KEYS}{line}\n")
    with pytest.raises(UsageError) as refused:
        reaching_out(ComfyuiWorkerSettings(remote_keys=file))
    assert f"Line 5 of {file}" in str(refused.value)
    assert sentence in str(refused.value)
    assert "key-of-mine" not in str(refused.value)


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be read \(No such file or directory\)"):
        read(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"cannot be read \(it is no text\)"):
        read(tmp_path / "bytes")
