"""Pictures come back as they were saved; files are never overwritten and never leave their folder."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image

from comfy_dist.nodes import folders
from comfy_dist.nodes.core.image_sets import LoadImageSetFromFolderNode
from comfy_dist.nodes.core.inputs import UnusableInput
from comfy_dist.nodes.core.load import LoadImage, LoadImageMask, LoadImageOutput, WebcamCapture
from comfy_dist.nodes.core.save import MaskPreview, PreviewImage, SaveImage
from comfy_dist.nodes.folders import NotSaved
from comfy_dist.workspace import MARK, PathRefused, Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    workspace = Workspace.at(tmp_path)
    workspace.create()
    folders.use(workspace)
    yield workspace
    folders.use(workspace)


def noise(*shape: int) -> torch.Tensor:
    """Values k / 255, so that 8 bits hold them exactly."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, shape, generator=generator).float() / 255


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


class TestLoading:
    def load(self, workspace: Workspace, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        assert LoadImage.VALIDATE_INPUTS(name) is True
        return LoadImage().load_image(name)

    def test_no_other_program_reads_a_picture(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pillow would have Ghostscript run PostScript, where it is installed: it must not get so far."""
        Image.new("RGB", (4, 4)).save(workspace.input / "a.eps")
        (workspace.input / "a.eps").rename(workspace.input / "a.png")
        monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("Ghostscript was started"))
        with pytest.raises(UnusableInput, match="no picture that can be read"):
            self.load(workspace, "a.png")

    @pytest.mark.parametrize(("mode", "alpha"), [("RGB", False), ("RGBA", True), ("L", False), ("LA", True)])
    def test_pixels_and_mask(self, workspace: Workspace, mode: str, alpha: bool) -> None:
        pixels = (noise(5, 7, 4) * 255).byte().numpy()
        picture = Image.fromarray(pixels).convert(mode)
        picture.save(workspace.input / "a.png")
        image, mask = self.load(workspace, "a.png")
        assert torch.equal(image[0], torch.from_numpy(np.array(picture.convert("RGB")).astype(np.float32) / 255))
        if alpha:
            expected = 1 - torch.from_numpy(np.array(picture.getchannel("A")).astype(np.float32) / 255)
            assert torch.equal(mask[0], expected)
        else:
            assert torch.equal(mask, torch.zeros(1, 64, 64))

    def test_sixteen_bits_are_scaled_to_eight(self, workspace: Workspace) -> None:
        values = np.array([[0, 255, 25500, 65025]], dtype=np.uint16)
        Image.fromarray(values).save(workspace.input / "deep.png")
        image, _ = self.load(workspace, "deep.png")
        assert [round(float(value) * 255) for value in image[0, 0, :, 0]] == [0, 1, 100, 255]
        (mask,) = LoadImageMask().load_image("deep.png", "green")
        assert torch.equal(mask[0], image[0, ..., 1])

    def test_exif_orientation_is_applied(self, workspace: Workspace) -> None:
        exif = Image.Exif()
        exif[274] = 6
        Image.new("RGB", (7, 5)).save(workspace.input / "turned.jpg", exif=exif)
        assert self.load(workspace, "turned.jpg")[0].shape == (1, 7, 5, 3)

    def test_an_animation_is_a_batch(self, workspace: Workspace) -> None:
        frames = [Image.new("RGBA", (4, 3), (index, 0, 0, 255 - index)) for index in range(3)]
        frames[0].save(workspace.input / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
        image, mask = self.load(workspace, "a.webp")
        assert image.shape == (3, 3, 4, 3)
        assert [round(float(value) * 255) for value in image[:, 0, 0, 0]] == [0, 1, 2]
        assert [round(float(value) * 255) for value in mask[:, 0, 0]] == [0, 1, 2]

    def test_opaque_frames_among_transparent_ones_have_a_mask_of_their_size(self, workspace: Workspace) -> None:
        opaque, clear = Image.new("RGB", (4, 3), "red"), Image.new("RGBA", (4, 3), (0, 0, 0, 0))
        opaque.save(workspace.input / "a.tiff", save_all=True, append_images=[clear])
        image, mask = self.load(workspace, "a.tiff")
        assert image.shape == (2, 3, 4, 3)
        assert mask.tolist() == [[[0.0] * 4] * 3, [[1.0] * 4] * 3]

    def test_transparent_palettes_have_a_mask(self, workspace: Workspace) -> None:
        picture = Image.new("P", (2, 1))
        picture.putpalette([0, 0, 0, 255, 255, 255])
        picture.putpixel((1, 0), 1)
        picture.save(workspace.input / "p.png", transparency=1)
        assert self.load(workspace, "p.png")[1].tolist() == [[[0.0, 1.0]]]

    def test_a_cut_off_file_shows_what_it_has(self, workspace: Workspace) -> None:
        Image.fromarray((noise(64, 64, 3) * 255).byte().numpy()).save(workspace.input / "a.jpg")
        data = (workspace.input / "a.jpg").read_bytes()
        (workspace.input / "cut.jpg").write_bytes(data[: len(data) // 2])
        assert self.load(workspace, "cut.jpg")[0].shape == (1, 64, 64, 3)

    @pytest.mark.filterwarnings("ignore::UserWarning:PIL")
    @pytest.mark.parametrize("kind", ["png", "gif", "tiff"])
    def test_a_cut_off_animation_shows_the_frames_it_has(self, workspace: Workspace, kind: str) -> None:
        frames = [Image.fromarray((noise(40, 40, 3) * 255).byte().numpy() ^ mask) for mask in (0, 85, 170)]
        frames[0].save(workspace.input / f"whole.{kind}", save_all=True, append_images=frames[1:])
        data = (workspace.input / f"whole.{kind}").read_bytes()
        (workspace.input / f"cut.{kind}").write_bytes(data[: len(data) // 2])
        whole, _ = self.load(workspace, f"whole.{kind}")
        cut, _ = self.load(workspace, f"cut.{kind}")
        assert len(whole) == 3
        assert 1 <= len(cut) < 3
        assert torch.equal(cut[0], whole[0])

    def test_a_photoshop_file_without_layers_is_its_picture(self, workspace: Workspace) -> None:
        header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 2, 2, 8, 3) + bytes(12)
        planes = struct.pack(">H", 0) + bytes(range(12))
        (workspace.input / "flat.psd").write_bytes(header + planes)
        image, _ = self.load(workspace, "flat.psd")
        assert (image[0] * 255).round().flatten().tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]

    def test_a_picture_that_would_fill_the_memory_is_named(self, workspace: Workspace) -> None:
        Image.new("1", (1, 1)).save(workspace.input / "bomb.png")
        data = (workspace.input / "bomb.png").read_bytes()
        header = b"IHDR" + struct.pack(">II", 30_000, 30_000) + data[24:29]
        content = data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
        (workspace.input / "bomb.png").write_bytes(content)
        for load in (LoadImage().load_image, lambda name: LoadImageMask().load_image(name, "red")):
            with pytest.raises(UnusableInput, match=r"^bomb\.png is too large to be loaded: .*900000000 pixels"):
                load("bomb.png")

    @pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
    @pytest.mark.parametrize("name", ["animated.gif", "animated.png", "animated.webp", "pages.tiff", "turned.jpg"])
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_a_picture_with_any_bytes_changed_is_loaded_or_named(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, name: str, data: st.DataObject
    ) -> None:
        # Changed bytes may ask for a picture of a gigabyte.
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
        content = bytearray((Path(__file__).parent / "files" / name).read_bytes())
        places = st.integers(0, len(content) - 1)
        for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=5)):
            content[place] = byte
        (workspace.input / name).write_bytes(content[: data.draw(places)] if data.draw(st.booleans()) else content)
        with suppress(UnusableInput):
            image, mask = LoadImage().load_image(name)
            assert image.shape[0] == mask.shape[0] >= 1

    def test_names_are_listed_annotated_and_kept_inside(self, workspace: Workspace) -> None:
        for name in ("b.png", "a.JPG", "c.webp", "notes.txt", "m.mp4"):
            (workspace.input / name).write_bytes(b"x")
        (workspace.input / "folder.png").mkdir()
        (workspace.output / "out.png").write_bytes(b"y")
        (workspace.root / "secret.png").write_bytes(b"z")
        choices, options = LoadImage.INPUT_TYPES()["required"]["image"]
        assert choices == ["a.JPG", "b.png", "c.webp"]
        assert options == {"image_upload": True}
        assert LoadImage.VALIDATE_INPUTS("out.png [output]") is True
        for wrong in ("gone.png", "../secret.png", "/etc/passwd", "out.png", "", "a\0.png", "x" * 5000):
            assert LoadImage.VALIDATE_INPUTS(wrong) == f"Invalid image file: {wrong}"
        with pytest.raises(PathRefused):
            LoadImage().load_image("../secret.png")

    @pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
    def test_what_is_no_picture_is_named(self, workspace: Workspace, content: bytes) -> None:
        (workspace.input / "a.png").write_bytes(content)
        for load in (LoadImage().load_image, lambda name: LoadImageMask().load_image(name, "red")):
            with pytest.raises(UnusableInput, match=r"^a\.png is no picture that can be read"):
                load("a.png")

    def test_every_node_loads_from_the_folder_that_is_named(self, workspace: Workspace) -> None:
        pixels = (noise(5, 7, 4) * 255).byte().numpy()
        for folder in (workspace.input, workspace.output, workspace.temp):
            Image.fromarray(pixels).save(folder / "a.png")
            pixels = 255 - pixels
        expected, mask = LoadImage().load_image("a.png")
        output, output_mask = LoadImageOutput().load_image("a.png [output]")
        captured = WebcamCapture().load_capture("a.png [temp]", 0, 0, True)
        assert torch.allclose(output, 1 - expected)
        assert torch.allclose(output_mask, 1 - mask)
        assert len(captured) == 1
        assert torch.equal(captured[0], expected)
        for channel, plane in (("alpha", 1 - output_mask[0]), ("blue", expected[0, ..., 2])):
            (loaded,) = LoadImageMask().load_image("a.png", channel)
            assert torch.allclose(loaded[0], plane)
        for node in (LoadImageMask, LoadImageOutput, WebcamCapture):
            assert node.VALIDATE_INPUTS("a.png [temp]") is True
            assert node.VALIDATE_INPUTS("b.png") == "Invalid image file: b.png"

    def test_a_set_is_loaded_in_the_order_of_its_names(self, workspace: Workspace) -> None:
        place = workspace.input / "sets" / "deep"
        place.mkdir(parents=True)
        for index, name in enumerate(("c.png", "a.jpeg", "b.webp", "d.txt")):
            Image.new("RGB", (4, 4), (80 * index, 0, 0)).save(place / name, format="PNG")
        # Ours, which no name leads into.
        (workspace.input / MARK / "lent").mkdir(parents=True)
        (choices, _) = LoadImageSetFromFolderNode.INPUT_TYPES()["required"]["folder"]
        assert choices == ["sets", "sets/deep"]
        (images,) = LoadImageSetFromFolderNode().load_images("sets/deep")
        assert [round(float(value) * 255) for value in images[:, 0, 0, 0]] == [80, 160, 0]
        (place / "folder.png").mkdir()
        assert len(LoadImageSetFromFolderNode().load_images("sets/deep")[0]) == 3
        Image.new("RGB", (5, 4)).save(place / "e.png")
        with pytest.raises(UnusableInput, match=r"e\.png has 5 x 4 pixels, a\.jpeg 4 x 4"):
            LoadImageSetFromFolderNode().load_images("sets/deep")
        with pytest.raises(UnusableInput, match="The folder sets has no pictures"):
            LoadImageSetFromFolderNode().load_images("sets")
        with pytest.raises(PathRefused):
            LoadImageSetFromFolderNode().load_images("../output")

    def test_is_changed_follows_the_content(self, workspace: Workspace) -> None:
        (workspace.input / "a.png").write_bytes(b"1")
        first = LoadImage.IS_CHANGED("a.png")
        (workspace.input / "a.png").write_bytes(b"2")
        assert len(first) == 64
        assert LoadImage.IS_CHANGED("a.png") != first


class TestSaving:
    def test_pixels_and_metadata_come_back(self, workspace: Workspace) -> None:
        images = noise(2, 5, 7, 3)
        prompt = {"1": {"class_type": "X", "inputs": {"text": "ünïcode \u2603"}}}
        shown = SaveImage().save_images(images, "pic", prompt, {"workflow": {"nodes": [1]}})
        assert shown == {
            "ui": {
                "images": [
                    {"filename": "pic_00001_.png", "subfolder": "", "type": "output"},
                    {"filename": "pic_00002_.png", "subfolder": "", "type": "output"},
                ]
            }
        }
        for index in (0, 1):
            with Image.open(workspace.output / f"pic_0000{index + 1}_.png") as picture:
                picture.load()
                assert torch.equal(torch.from_numpy(np.array(picture).astype(np.float32) / 255), images[index])
                assert json.loads(picture.info["prompt"]) == prompt
                assert json.loads(picture.info["workflow"]) == {"nodes": [1]}

    def test_metadata_can_be_left_out(self, workspace: Workspace) -> None:
        folders.use(workspace, save_metadata=False)
        SaveImage().save_images(noise(1, 2, 2, 3), "pic", {"1": {}}, {"workflow": {}})
        with Image.open(workspace.output / "pic_00001_.png") as picture:
            picture.load()
            assert picture.info == {}

    def test_the_prefix_has_variables_and_subfolders(self, workspace: Workspace) -> None:
        saved = SaveImage().save_images(noise(2, 5, 7, 3), "a/b/%width%x%height%_%batch_num%")["ui"]["images"]
        assert [each["filename"] for each in saved] == ["7x5_0_00001_.png", "7x5_1_00002_.png"]
        assert {each["subfolder"] for each in saved} == {"a/b"}
        assert sorted(names_in(workspace.output / "a" / "b")) == ["7x5_0_00001_.png", "7x5_1_00002_.png"]
        year = SaveImage().save_images(noise(1, 2, 2, 3), "%year%-%month%-%day%")["ui"]["images"][0]["filename"]
        assert len(year) == len("2026-01-01_00001_.png")

    def test_numbers_go_on_after_the_highest(self, workspace: Workspace) -> None:
        for name in ("pic_00007_.png", "pic_other_00050_.png", "picture_00060_.png", "pic_.png"):
            (workspace.output / name).touch()
        saved = SaveImage().save_images(noise(1, 2, 2, 3), "pic")["ui"]["images"]
        assert saved[0]["filename"] == "pic_00008_.png"

    @pytest.mark.parametrize("prefix", ["../out", "a/../../out", "/elsewhere/out", "..", "a\0b"])
    def test_a_prefix_cannot_leave_the_folder(self, workspace: Workspace, prefix: str) -> None:
        with pytest.raises(PathRefused, match="leads out of the folder output"):
            SaveImage().save_images(noise(1, 2, 2, 3), prefix)
        assert not names_in(workspace.output)

    @pytest.mark.parametrize("prefix", ["", ".", "./", "a/..", "a/../."])
    def test_a_prefix_that_is_the_folder_itself_saves_into_it(self, workspace: Workspace, prefix: str) -> None:
        [saved] = SaveImage().save_images(noise(1, 2, 2, 3), prefix)["ui"]["images"]
        assert (saved["filename"], saved["subfolder"]) == ("_00001_.png", "")
        assert names_in(workspace.output) == ["_00001_.png"]

    def test_what_the_disk_does_not_take_is_named(self, workspace: Workspace) -> None:
        (workspace.output / "file").touch()
        for prefix, sentence in (
            ("x" * 250, r"The file x+_00001_\.png cannot be made: File name too long\."),
            ("x" * 300 + "/a", r"There can be no folder for the filename prefix 'x+/a': File name too long\."),
            ("file/a", r"There can be no folder for the filename prefix 'file/a': File exists\."),
            ("file/a/b", r"There can be no folder for the filename prefix 'file/a/b': Not a directory\."),
        ):
            with pytest.raises(NotSaved, match=f"^{sentence}$"):
                SaveImage().save_images(noise(1, 2, 2, 3), prefix)
        assert names_in(workspace.output) == ["file"]

    def test_a_full_disk_is_named_and_leaves_no_half_file(self, workspace: Workspace) -> None:
        resource = pytest.importorskip("resource")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            with pytest.raises(NotSaved, match=r"^The file pic_00001_\.png cannot be written: File too large\.$"):
                SaveImage().save_images(noise(1, 64, 64, 3), "pic")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not names_in(workspace.output)

    def test_a_link_out_of_the_folder_is_not_followed(self, workspace: Workspace, tmp_path: Path) -> None:
        (workspace.output / "link").symlink_to(tmp_path)
        with pytest.raises(PathRefused):
            SaveImage().save_images(noise(1, 2, 2, 3), "link/pic")

    def test_savers_beside_each_other_never_take_each_others_names(self, workspace: Workspace) -> None:
        image = noise(4, 2, 2, 3)
        with ThreadPoolExecutor(8) as threads:
            saved = list(threads.map(lambda _: SaveImage().save_images(image, "pic"), range(16)))
        names = [each["filename"] for one in saved for each in one["ui"]["images"]]
        assert len(set(names)) == 64
        assert set(names) == set(names_in(workspace.output))

    def test_previews_lie_in_temp_under_a_name_of_their_own(self, workspace: Workspace) -> None:
        one, two = PreviewImage(), PreviewImage()
        [first] = one.save_images(noise(1, 2, 2, 3))["ui"]["images"]
        [second] = two.save_images(noise(1, 2, 2, 4))["ui"]["images"]
        assert first["type"] == "temp"
        assert first["filename"].startswith("ComfyUI_temp_")
        assert first["filename"][:18] != second["filename"][:18]
        assert (workspace.temp / first["filename"]).is_file()

    def test_a_mask_is_shown_grey(self, workspace: Workspace) -> None:
        mask = noise(2, 5, 7)
        shown = MaskPreview().execute(mask)["ui"]["images"]
        assert [each["type"] for each in shown] == ["temp", "temp"]
        for each, plane in zip(shown, mask, strict=True):
            with Image.open(workspace.temp / each["filename"]) as picture:
                assert picture.mode == "RGB"
                expected = (plane * 255).round().byte().numpy()
                assert np.array_equal(np.array(picture), np.repeat(expected[..., None], 3, axis=2))


@given(st.text(alphabet="ab%/._-0123456789\\", max_size=12), st.text(alphabet="ab_0123456789.", max_size=12))
def test_numbers_are_free_whatever_lies_there(name: str, other: str) -> None:
    number = folders.next_number([other, f"{name}_{other}", f"{name}_00041_.png"], name)
    assert number >= 42
