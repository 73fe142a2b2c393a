"""Files out of the workspace: whole, in part, re-encoded; none from elsewhere."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import EpsImagePlugin, Image

from tests.web.conftest import Served, picture


@pytest.fixture
def output(served: Served) -> Path:
    (served.workspace.output / "sub").mkdir()
    (served.workspace.output / "a.png").write_bytes(picture())
    (served.workspace.output / "sub/b.png").write_bytes(picture())
    (served.workspace.input / "in.png").write_bytes(picture())
    (served.workspace.output / "film.mp4").write_bytes(bytes(range(256)) * 10)
    return served.workspace.output


@pytest.mark.parametrize(
    "query",
    [
        "filename=a.png",
        "filename=a.png&type=output&subfolder=&rand=0.5",
        "filename=b.png&subfolder=sub",
        "filename=in.png&type=input",
        "filename=in.png%20%5Binput%5D",
        "filename=a.png%20%5Boutput%5D&type=input",
        "filename=sub%2Fb.png",
        "filename=a.png&channel=rgba",
    ],
)
async def test_a_file_is_served_as_it_is(served: Served, output: Path, query: str) -> None:
    for prefix in ("", "/api"):
        answer = await served.get(f"{prefix}/view?{query}")
        assert answer.status == 200
        assert answer.body == picture()
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Content-Disposition"].startswith('filename="')
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_part_of_a_film_can_be_asked_for(served: Served, output: Path) -> None:
    answer = await served.get("/view?filename=film.mp4", headers={"Range": "bytes=256-259"})
    assert (answer.status, answer.body) == (206, b"\x00\x01\x02\x03")
    assert answer.headers["Content-Range"] == "bytes 256-259/2560"
    beyond = await served.get("/view?filename=film.mp4", headers={"Range": "bytes=9999-"})
    assert beyond.status == 416


async def test_an_unchanged_file_is_not_sent_again(served: Served, output: Path) -> None:
    first = await served.get("/view?filename=a.png")
    again = {"If-None-Match": first.headers["Etag"]}
    assert (await served.get("/view?filename=a.png", headers=again)).status == 304
    since = {"If-Modified-Since": first.headers["Last-Modified"]}
    assert (await served.get("/view?filename=a.png", headers=since)).status == 304


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("filename=", 400),
        ("filename=..%2Fsecret.png", 400),
        ("filename=..%5Csecret.png", 400),
        ("filename=%2Fetc%2Fpasswd", 400),
        ("filename=a%00.png", 400),
        ("filename=a.png&type=models", 400),
        ("filename=a.png&type=__class__", 400),
        ("filename=secret.png&subfolder=..", 403),
        ("filename=passwd&subfolder=%2Fetc", 403),
        ("filename=a.png&subfolder=%00", 403),
        ("filename=link.png", 403),
        ("filename=secret.png&subfolder=linked", 403),
        ("filename=identity.json&subfolder=.comfy_dist", 403),
        ("filename=identity.json&subfolder=.Comfy_Dist", 403),
        ("filename=.comfy_dist/identity.json", 400),
        ("filename=absent.png", 404),
        ("filename=sub", 404),
        ("filename=" + "x" * 400, 404),
    ],
)
async def test_nothing_outside_is_served(
    served: Served, output: Path, tmp_path: Path, query: str, status: int
) -> None:
    (served.workspace.root / "secret.png").write_bytes(b"secret")
    (output / "link.png").symlink_to(served.workspace.root / "secret.png")
    (output / "linked").symlink_to(served.workspace.root)
    answer = await served.get(f"/view?{query}")
    assert answer.status == status
    assert answer.sentence
    assert b"secret" not in answer.body or b"secret.png" in answer.body


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("a.webp", "image/webp"),
        ("a.mp4", "video/mp4"),
        ("a.flac", "audio/flac"),
        ("a.glb", "model/gltf-binary"),
        ("a.latent", "application/octet-stream"),
        ("a.png.gz", "application/octet-stream"),
    ],
)
async def test_media_have_their_type(served: Served, output: Path, name: str, type_: str) -> None:
    (output / name).write_bytes(b"x")
    answer = await served.get(f"/view?filename={name}", headers={"Accept-Encoding": "identity"})
    assert answer.headers["Content-Type"] == type_


@pytest.mark.parametrize("name", ["a.html", "a.htm", "a.svg", "a.js", "a.mjs", "a.css", "a.xhtml", "a.xml"])
async def test_what_a_browser_would_run_is_an_attachment(served: Served, output: Path, name: str) -> None:
    (output / name).write_text("<script>alert(1)</script>")
    answer = await served.get(f"/view?filename={name}")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'


@pytest.mark.parametrize("name", ["füße.png", 'quo"te.png', "back\\slash.png", "雪.png"])
async def test_unusual_names_survive_the_header(served: Served, output: Path, name: str) -> None:
    (output / name).write_bytes(picture())
    answer = await served.get(f"/view?filename={quote(name, safe='')}")
    assert answer.status == 200
    assert f"filename*=UTF-8''{quote(name, safe='')}" in answer.headers["Content-Disposition"]


@pytest.mark.parametrize(
    ("asked", "format"),
    [
        ("webp;90", "WEBP"),
        ("jpeg;50", "JPEG"),
        ("webp", "WEBP"),
        ("tiff;x", "WEBP"),
        ("webp;1000", "WEBP"),
        ("jpeg;" + "9" * 5000, "JPEG"),
    ],
)
async def test_a_preview_is_re_encoded(served: Served, output: Path, asked: str, format: str) -> None:
    answer = await served.get(f"/view?filename=a.png&preview={quote(asked)}")
    assert answer.status == 200
    assert Image.open(io.BytesIO(answer.body)).format == format
    assert answer.headers["Content-Type"] == f"image/{format.lower()}"


async def test_channels_are_separated(served: Served, output: Path) -> None:
    rgb = Image.open(io.BytesIO((await served.get("/view?filename=a.png&channel=rgb")).body))
    assert (rgb.mode, rgb.getpixel((0, 0))) == ("RGB", (255, 0, 0))
    alpha = Image.open(io.BytesIO((await served.get("/view?filename=a.png&channel=a")).body))
    assert (alpha.mode, alpha.getpixel((0, 0))) == ("RGBA", (0, 0, 0, 128))


async def test_no_other_program_reads_a_picture(
    served: Served, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow would have Ghostscript run PostScript, where it is installed."""
    with (output / "a.png").open("wb") as file:
        Image.new("RGB", (4, 4)).save(file, format="EPS")
    started: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given: started.append(given))
    answer = await served.get("/view?filename=a.png&preview=webp")
    assert answer.status == 400
    assert started == []


async def test_a_preview_of_what_is_no_picture_is_a_sentence(served: Served, output: Path) -> None:
    answer = await served.get("/view?filename=film.mp4&preview=webp")
    assert answer.status == 400
    assert "film.mp4" in answer.sentence


async def test_without_pillow_pictures_are_served_but_not_re_encoded(
    served: Served, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)  # as if it were not installed
    answer = await served.get("/view?filename=a.png&preview=webp")
    assert answer.status == 501
    assert "comfy_dist[worker]" in answer.sentence
    assert (await served.get("/view?filename=a.png")).status == 200


async def test_media_folders_are_listed_newest_first(served: Served, output: Path) -> None:
    os.utime(output / "a.png", (1, 1))
    assert (await served.get("/internal/files/output")).json() == ["film.mp4", "a.png"]
    wrong = await served.get("/internal/files/models")
    assert (wrong.status, wrong.json()) == (400, {"error": "Invalid directory type"})
