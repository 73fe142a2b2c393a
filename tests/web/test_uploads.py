"""Uploads: what the page sends arrives, under its name, once, and nowhere else."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from PIL import Image, PngImagePlugin

from tests.support.patience import PATIENCE
from tests.web.conftest import Served, Start, names, picture


@pytest.mark.parametrize("route", ["/upload/image", "/api/upload/image"])
async def test_a_picture_is_stored_in_input(served: Served, route: str) -> None:
    answer = await served.upload(picture(), "cat.png", route)
    assert (answer.status, answer.json()) == (200, {"name": "cat.png", "subfolder": "", "type": "input"})
    assert (served.workspace.input / "cat.png").read_bytes() == picture()


async def test_the_same_content_is_reused_and_other_content_is_numbered(served: Served) -> None:
    red, blue = picture(), picture(color=(0, 0, 255, 255))
    given = [(await served.upload(content, "a.png")).json()["name"] for content in (red, blue, red, blue)]
    assert given == ["a.png", "a (1).png", "a.png", "a (1).png"]
    assert names(served.workspace.input) == ["a (1).png", "a.png"]


@pytest.mark.parametrize("word", ["true", "1"])
async def test_overwrite_replaces(served: Served, word: str) -> None:
    await served.upload(picture(), "a.png")
    blue = picture(color=(0, 0, 255, 255))
    assert (await served.upload(blue, "a.png", overwrite=word)).json()["name"] == "a.png"
    assert (served.workspace.input / "a.png").read_bytes() == blue


async def test_subfolder_and_type_are_kept(served: Served) -> None:
    answer = await served.upload(picture(), "a.png", subfolder="clip space/x", type="temp")
    assert answer.json() == {"name": "a.png", "subfolder": "clip space/x", "type": "temp"}
    assert (served.workspace.temp / "clip space/x/a.png").is_file()


@pytest.mark.parametrize("name", ["film.mp4", "song.wav", "model.glb", "notes", "weights.safetensors"])
async def test_other_files_go_through_the_same_route(served: Served, name: str) -> None:
    assert (await served.upload(b"\x00\x01 bytes of any kind", name)).status == 200


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
async def test_a_picture_may_have_another_format_than_its_name_says(served: Served, format: str) -> None:
    assert (await served.upload(picture(format), "saved-from-the-web.jpg")).status == 200


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a.jpeg", "a.webp", "a.gif", "a.bmp"])
async def test_a_picture_that_is_none_is_refused(served: Served, name: str) -> None:
    answer = await served.upload(b"<html>not found</html>", name)
    assert answer.status == 400
    assert "is not a picture" in answer.sentence
    assert names(served.workspace.input) == []


async def test_an_empty_file_is_refused(served: Served) -> None:
    answer = await served.upload(b"", "a.png")
    assert answer.status == 400
    assert "is empty" in answer.sentence


NAMES = ["../a.png", "..", ".", "/etc/a.png", "a/b.png", "..\\a.png", "C:\\a.png", "a\0.png", "a\n.png", " "]


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_that_is_a_path_or_no_name_stays_out(served: Served, tmp_path: Path, name: str) -> None:
    # By hand: clients refuse to send most of these.
    filename = f"filename*=UTF-8''{quote(name, safe='')}"
    head = f'--b\r\nContent-Disposition: form-data; name="image"; {filename}\r\n\r\n'
    body = head.encode() + picture() + b"\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = await served.post("/upload/image", data=body, headers=headers)
    assert answer.status == 400
    assert answer.sentence
    assert not list(tmp_path.rglob("*.png"))


async def test_a_name_too_long_for_the_disk_is_refused(served: Served) -> None:
    assert "too long" in (await served.upload(picture(), "x" * 300 + ".png")).sentence


@pytest.mark.parametrize("subfolder", ["..", "../x", "/etc", "a/../../x", "a\0b", "C:/x"])
async def test_a_subfolder_outside_is_refused(served: Served, tmp_path: Path, subfolder: str) -> None:
    answer = await served.upload(picture(), "a.png", subfolder=subfolder)
    assert answer.status == 400
    assert answer.sentence
    assert list(tmp_path.rglob("*.png")) == []


async def test_a_link_out_of_the_folder_is_not_followed(served: Served, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (served.workspace.input / "link").symlink_to(tmp_path / "outside")
    (served.workspace.input / "a.png").symlink_to(tmp_path / "outside/a.png")
    assert (await served.upload(picture(), "b.png", subfolder="link")).status == 400
    assert (await served.upload(picture(), "a.png", overwrite="true")).status == 400
    assert names(tmp_path / "outside") == []


async def test_a_wrong_type_is_a_sentence(served: Served) -> None:
    answer = await served.upload(picture(), "a.png", type="models")
    assert answer.status == 400
    assert "models" in answer.sentence


async def test_no_file_and_no_form_are_sentences(served: Served) -> None:
    form = aiohttp.FormData({"subfolder": "x"})
    form.add_field("other", b"x", filename="a.png")
    assert (await served.post("/upload/image", data=form)).status == 400
    assert (await served.post("/upload/image", data=b"x")).status == 400
    broken = {"Content-Type": "multipart/form-data"}
    assert (await served.post("/upload/image", data=b"x", headers=broken)).status == 400
    cut = {"Content-Type": "multipart/form-data; boundary=x"}
    assert (await served.post("/upload/image", data=b"--x\r\nnonsense", headers=cut)).status == 400


async def test_an_upload_over_the_cap_is_refused_and_leaves_nothing(start: Start) -> None:
    served = await start(max_upload_size=0.1)
    answer = await served.upload(bytes(300_000), "film.mp4")
    assert answer.status == 413
    assert "--max-upload-size" in answer.sentence
    assert names(served.workspace.input) == []
    assert names(served.workspace.temp) == []


async def test_the_cap_holds_for_a_body_of_unannounced_length(start: Start) -> None:
    served = await start(max_upload_size=0.1)
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="film.mp4"\r\n\r\n'

    async def body() -> AsyncIterator[bytes]:
        yield head
        for _ in range(10):
            yield bytes(100_000)

    answer = await served.post(
        "/upload/image", data=body(), headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert answer.status == 413
    assert names(served.workspace.temp) == []


@pytest.mark.parametrize("value", [b"", b"x" * 1000])
async def test_fields_without_end_are_refused(served: Served, value: bytes) -> None:
    async def body() -> AsyncIterator[bytes]:
        # What is kept of a form is in memory, before it is known how long it will be.
        for number in range(20_000):
            yield b'--b\r\nContent-Disposition: form-data; name="field-%d"\r\n\r\n%b\r\n' % (number, value)

    answer = await served.post(
        "/upload/image", data=body(), headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert answer.status == 413


async def test_an_upload_broken_off_leaves_nothing(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(
        b"POST /upload/image HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="film.mp4"\r\n\r\n' + bytes(300_000)
    )
    await writer.drain()
    async with asyncio.timeout(PATIENCE):
        while not names(served.workspace.temp):
            await asyncio.sleep(0.01)
        writer.close()
        while names(served.workspace.temp):
            await asyncio.sleep(0.01)
    assert names(served.workspace.input) == []
    assert not caplog.records, "a client that leaves is no error"


async def test_a_mask_becomes_the_transparency_of_the_original(served: Served) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("workflow", "{}")
    Image.new("RGB", (8, 4), "red").save(served.workspace.output / "a.png", pnginfo=texts)
    reference = json.dumps({"filename": "a.png", "subfolder": "", "type": "output"})
    answer = await served.upload(
        picture(color=(0, 0, 0, 77)), "masked.png", "/upload/mask", original_ref=reference, subfolder="clipspace"
    )
    assert answer.json() == {"name": "masked.png", "subfolder": "clipspace", "type": "input"}
    stored = Image.open(served.workspace.input / "clipspace/masked.png")
    assert stored.getpixel((0, 0)) == (255, 0, 0, 77)
    assert stored.info["workflow"] == "{}"


async def test_a_mask_without_a_fitting_original_is_refused(served: Served) -> None:
    (served.workspace.output / "a.png").write_bytes(picture())
    (served.workspace.output / "text.png").write_bytes(b"x")

    async def status(reference: object, mask: bytes | None = None) -> int:
        text = reference if isinstance(reference, str) else json.dumps(reference)
        answer = await served.upload(mask or picture(), "m.png", "/upload/mask", original_ref=text)
        assert answer.sentence
        return answer.status

    assert await status({"filename": "absent.png"}) == 404
    assert await status({"filename": "../../x.png"}) == 400
    assert await status({"filename": "a.png", "type": "models"}) == 400
    assert await status({}) == 400
    assert await status([]) == 400
    assert await status("no json") == 400
    assert await status({"filename": "text.png"}) == 400
    assert await status({"filename": "a.png"}, picture(size=(3, 3))) == 400
    assert await status({"filename": "a.png"}, b"no picture") == 400
    assert names(served.workspace.input) == []


async def test_many_uploads_of_one_name_at_once_all_survive(served: Served) -> None:
    contents = [picture(color=(shade, 0, 0, 255)) for shade in range(12)]
    answers = await asyncio.gather(*(served.upload(content, "a.png") for content in contents))
    given = {answer.json()["name"] for answer in answers}
    assert len(given) == len(contents)
    stored = {(served.workspace.input / name).read_bytes() for name in given}
    assert stored == set(contents)
    assert Image.open(io.BytesIO(stored.pop())).size == (8, 4)
