"""Images from an address are what LoadImage gives of the same file; images to one arrive as they are."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image

from comfy_dist.nodes import folders
from comfy_dist.nodes.core.inputs import UnusableInput
from comfy_dist.nodes.core.load import LoadImage
from comfy_dist.nodes.remote import url_images
from comfy_dist.nodes.remote.image_batches import CombineImageBatch
from comfy_dist.nodes.remote.url_images import LoadImageUrl, SaveImageUrl
from comfy_dist.outside.allowed import VARIABLE
from comfy_dist.outside.errors import OutsideFailed, OutsideRefused
from comfy_dist.workspace import Workspace
from tests.nodes.drawing import call, images
from tests.outside.serving import answering, sending_on, serving
from tests.support.patience import PATIENCE

FILES = Path(__file__).parent / "files"


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    workspace = Workspace.at(tmp_path)
    workspace.create()
    folders.use(workspace)
    monkeypatch.setenv(VARIABLE, "127.0.0.1")
    yield workspace
    folders.use(workspace)


def data_url(content: bytes) -> str:
    return f"data:image/x;base64,{base64.b64encode(content).decode()}"


def loaded(content: bytes) -> tuple[torch.Tensor, torch.Tensor]:
    image, mask = call(LoadImageUrl, url=data_url(content))
    return image, mask


def encoded(picture: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **more)
    return file.getvalue()


def colours(mode: str) -> Image.Image:
    values = np.random.default_rng(1).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


class TestLoading:
    @pytest.mark.parametrize(
        "path", sorted(path for path in FILES.iterdir() if path.is_file()), ids=lambda path: path.name
    )
    def test_a_file_is_what_loadimage_gives_of_it(self, workspace: Workspace, path: Path) -> None:
        (workspace.input / path.name).write_bytes(path.read_bytes())
        try:
            expected, mask = LoadImage().load_image(path.name)
        except UnusableInput:
            with pytest.raises(UnusableInput, match="is no picture that can be read"):
                loaded(path.read_bytes())
            return
        image, own_mask = loaded(path.read_bytes())
        assert torch.equal(image, expected)
        assert own_mask.shape == image.shape[:3]
        assert torch.equal(own_mask, mask) or not (mask.any() or own_mask.any())

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
    def test_the_mask_is_what_is_transparent_in_the_size_of_the_image(self, mode: str) -> None:
        picture = colours(mode)
        image, mask = loaded(encoded(picture))
        assert torch.equal(image[0], torch.from_numpy(np.array(picture.convert("RGB")).astype(np.float32) / 255))
        alpha = np.array(picture.convert("RGBA").getchannel("A")).astype(np.float32) / 255
        assert torch.equal(mask[0], 1 - torch.from_numpy(alpha))

    def test_a_transparent_palette_has_a_mask(self) -> None:
        picture = Image.new("P", (2, 1))
        picture.putpalette([0, 0, 0, 255, 255, 255])
        picture.putpixel((1, 0), 1)
        assert loaded(encoded(picture, transparency=1))[1].tolist() == [[[0.0, 1.0]]]

    def test_sixteen_bits_are_scaled_to_eight(self) -> None:
        image, _ = loaded(encoded(Image.fromarray(np.array([[0, 255, 25500, 65025]], dtype=np.uint16))))
        assert [round(float(value) * 255) for value in image[0, 0, :, 0]] == [0, 1, 100, 255]

    def test_exif_orientation_is_applied(self) -> None:
        exif = Image.Exif()
        exif[274] = 6
        image, mask = loaded(encoded(Image.new("RGB", (7, 5)), "JPEG", exif=exif))
        assert (image.shape, mask.shape) == ((1, 7, 5, 3), (1, 7, 5))

    @pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
    def test_an_animation_is_a_batch(self, kind: str) -> None:
        frames = [Image.new("RGB", (4, 3), (index * 80, 0, 0)) for index in range(3)]
        lossless = {"lossless": True} if kind == "WEBP" else {}
        image, mask = loaded(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **lossless))
        assert (image.shape, mask.shape) == ((3, 3, 4, 3), (3, 3, 4))
        assert [round(float(value) * 255) for value in image[:, 0, 0, 0]] == [0, 80, 160]

    async def test_what_a_server_has_packed_is_unpacked(self) -> None:
        async def packed(_: web.Request) -> web.Response:
            body = gzip.compress(encoded(colours("RGB")))
            return web.Response(body=body, content_type="image/png", headers={"Content-Encoding": "gzip"})

        async with serving(packed) as served:
            image, _ = await LoadImageUrl().load_image_url(served.url("/a.png"))
        assert torch.equal(image, (await LoadImageUrl().load_image_url(data_url(encoded(colours("RGB")))))[0])

    @pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
    @pytest.mark.parametrize("name", ["animated.gif", "animated.png", "animated.webp", "pages.tiff"])
    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_a_broken_file_gives_what_loadimage_gives_of_it(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, name: str, data: st.DataObject
    ) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
        monkeypatch.setattr(url_images, "MOST_PIXELS", 2_000_000)
        content = bytearray((FILES / name).read_bytes())
        places = st.integers(0, len(content) - 1)
        for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=3)):
            content[place] = byte
        content = content[: data.draw(places)]
        (workspace.input / name).write_bytes(content)
        with suppress(UnusableInput):
            image, _ = loaded(bytes(content))
            assert torch.equal(image, LoadImage().load_image(name)[0])


async def test_an_interrupt_of_a_comfyui_without_a_worker_ends_the_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted(Exception):
        pass

    class Management:
        """What such a ComfyUI asks now and then, as its sampler does."""

        def throw_exception_if_processing_interrupted(self) -> None:
            if served.asked:
                raise Interrupted

    async def never(_: web.Request) -> web.Response:
        return await asyncio.Future()

    monkeypatch.setitem(sys.modules, "comfy.model_management", Management())
    async with asyncio.timeout(PATIENCE), serving(never) as served:
        with pytest.raises(Interrupted):
            await LoadImageUrl().load_image_url(served.url("/a.png"))
        with pytest.raises(Interrupted):
            await post(torch.zeros(1, 1, 1, 3), served.url())


class TestWhatIsNoPicture:
    async def test_a_page_instead_of_a_picture_is_named_by_its_type(self) -> None:
        page = b"<!doctype html><title>Sign in</title>"
        async with serving(answering(page, "text/html")) as served:
            with pytest.raises(UnusableInput, match=r"/a\.png \(text/html\) is no picture that can be read"):
                await LoadImageUrl().load_image_url(served.url("/a.png?token=secret"))

    @pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"<svg/>"])
    def test_what_is_none_is_named(self, content: bytes) -> None:
        with pytest.raises(UnusableInput, match=r"the data: address \(image/x\) is no picture"):
            loaded(content)

    def test_no_other_program_reads_a_picture(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("Ghostscript was started"))
        with pytest.raises(UnusableInput, match="no picture that can be read"):
            loaded(encoded(Image.new("RGB", (4, 4)), "EPS"))

    @pytest.mark.parametrize("pillow_has_a_limit", [True, False])
    def test_a_small_file_of_a_huge_picture_is_not_decoded(
        self, monkeypatch: pytest.MonkeyPatch, pillow_has_a_limit: bool
    ) -> None:
        if not pillow_has_a_limit:
            # Some node packs take it away for the whole process.
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        data = encoded(Image.new("1", (1, 1)))
        header = b"IHDR" + struct.pack(">II", 30_000, 30_000) + data[24:29]
        bomb = data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
        limit = "900000000 pixels" if pillow_has_a_limit else "more than 178,956,970 pixels"
        with pytest.raises(UnusableInput, match=f"is too large to be loaded: .*{limit}"):
            loaded(bomb)

    @pytest.mark.parametrize(("first", "others"), [(400, 400), (1, 800)], ids=["of one size", "of unlike sizes"])
    def test_a_file_of_many_frames_is_as_large_as_all_of_them(
        self, monkeypatch: pytest.MonkeyPatch, first: int, others: int
    ) -> None:
        monkeypatch.setattr(url_images, "MOST_PIXELS", 1_000_000)
        frames = [Image.new("L", (side, side), place) for place, side in enumerate([first, *[others] * 6])]
        few, many = (encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:end]) for end in (2, 7))
        assert loaded(few)[0].shape[1:] == (first, first, 3)
        with pytest.raises(UnusableInput, match="is too large to be loaded: it has more than 1,000,000 pixels"):
            loaded(many)

    def test_a_small_file_of_very_many_frames_is_not_decoded(self) -> None:
        head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
        frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02D\x01\x00"
        assert loaded(head + frame * 3 + b";")[0].shape == (3, 1, 1, 3)
        with pytest.raises(
            UnusableInput, match="pixels in all of its frames, where each counts for 4,096 at least"
        ):
            loaded(head + frame * 50_000 + b";")

    async def test_a_private_address_is_not_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(VARIABLE)
        async with serving(answering(b"secret")) as served:
            with pytest.raises(OutsideRefused, match="is in a private network"):
                await LoadImageUrl().load_image_url(served.url())
            with pytest.raises(OutsideRefused, match="is in a private network"):
                await post(torch.zeros(1, 1, 1, 3), served.url())
            assert not served.asked


async def post(
    batch: torch.Tensor, url: str, prefix: str = "ComfyUI", kind: str = "HTML_image", **more: Any
) -> Any:
    return await SaveImageUrl().save_images(batch, url, prefix, kind, **more)


async def posted(batch: torch.Tensor, prefix: str = "ComfyUI", kind: str = "HTML_image", **more: Any) -> Any:
    """What the server at the address got."""
    got: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        got.append(await request.json())
        return web.Response(text="thanks")

    async with serving(take) as served:
        await post(batch, served.url(), prefix, kind, **more)
    assert len(got) == 1
    return got[0]


class TestSaving:
    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(batch=images(eight_bits=True))
    def test_what_is_posted_loads_as_it_was(self, batch: torch.Tensor) -> None:
        files = asyncio.run(posted(batch))
        assert list(files) == [f"ComfyUI_{number:05}.png" for number in range(1, len(batch) + 1)]
        again = [call(LoadImageUrl, url=url)[0] for url in files.values()]
        assert torch.equal(torch.cat(again), batch)

    async def test_raw_data_is_base64_alone(self) -> None:
        batch = torch.zeros(1, 2, 2, 3)
        (raw,) = (await posted(batch, kind="Raw_data")).values()
        (url,) = (await posted(batch)).values()
        assert url == f"data:image/png;base64,{raw}"

    @pytest.mark.parametrize(
        ("prefix", "name"),
        [("a/b/../pre fix", "pre fix"), ("x/", "x"), ("/etc/y", "y"), ("%width%x%height%", "2x1")],
    )
    async def test_names_begin_with_the_prefix_without_its_folders(self, prefix: str, name: str) -> None:
        assert list(await posted(torch.zeros(1, 1, 2, 3), prefix)) == [f"{name}_00001.png"]

    @pytest.mark.parametrize("prefix", ["", "..", "a/..", "/"])
    async def test_a_prefix_without_a_name_is_refused(self, prefix: str) -> None:
        with pytest.raises(UnusableInput, match="has no name that files could begin with"):
            await posted(torch.zeros(1, 1, 2, 3), prefix)

    @pytest.mark.parametrize("kept", [True, False])
    async def test_prompt_and_workflow_go_along_unless_metadata_is_off(
        self, workspace: Workspace, kept: bool
    ) -> None:
        folders.use(workspace, save_metadata=kept)
        about = {"prompt": {"1": {"class_type": "X"}}, "extra_pnginfo": {"workflow": {"nodes": []}}}
        (raw,) = (await posted(torch.zeros(1, 1, 1, 3), kind="Raw_data", **about)).values()
        text = Image.open(io.BytesIO(base64.b64decode(raw))).info
        words = {"prompt": '{"1": {"class_type": "X"}}', "workflow": '{"nodes": []}'}
        assert {key: text[key] for key in text if key in words} == (words if kept else {})

    async def test_a_refusal_fails_the_node_with_its_words(self) -> None:
        no = json.dumps({"error": "No room."}).encode()
        async with serving(answering(no, "application/json", 500)) as served:
            with pytest.raises(OutsideFailed, match=r"answered 500: .*No room\."):
                await post(torch.zeros(1, 1, 1, 3), served.url())

    async def test_nothing_is_posted_where_a_redirect_leads(self) -> None:
        async with serving(answering()) as other, serving(sending_on(other.url(), 307)) as served:
            with pytest.raises(OutsideFailed, match="answered 307"):
                await post(torch.zeros(1, 1, 1, 3), served.url())
            assert not other.asked


class TestCombining:
    @given(st.data(), st.integers(1, 8), st.integers(1, 8))
    def test_the_second_batch_follows_the_first(self, data: st.DataObject, height: int, width: int) -> None:
        first, second = torch.rand(data.draw(st.integers(0, 3)), height, width, 3), torch.rand(2, height, width, 3)
        (both,) = call(CombineImageBatch, images_a=first, images_b=second)
        assert torch.equal(both[: len(first)], first)
        assert torch.equal(both[len(first) :], second)

    def test_two_sizes_are_an_error_that_names_both(self) -> None:
        with pytest.raises(UnusableInput, match="images_a are 5 x 4 with 3 channels and images_b 5 x 6 with 3"):
            call(CombineImageBatch, images_a=torch.rand(1, 4, 5, 3), images_b=torch.rand(1, 6, 5, 3))
        with pytest.raises(UnusableInput, match="images_b 5 x 4 with 4 channels"):
            call(CombineImageBatch, images_a=torch.rand(1, 4, 5, 3), images_b=torch.rand(1, 4, 5, 4))
