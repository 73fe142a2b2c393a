"""Core nodes give ComfyUI's results; files are never overwritten and never leave their folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from comfy_dist.nodes import core, folders
from comfy_dist.nodes.core.compositing import ImageCompositeMasked
from comfy_dist.nodes.core.image_batches import ImageBatch
from comfy_dist.nodes.core.images import EmptyImage
from comfy_dist.nodes.core.load import LoadImage
from comfy_dist.nodes.core.masks import SolidMask
from comfy_dist.nodes.core.resize import common_upscale, repeat_to_batch_size
from comfy_dist.nodes.core.save import PreviewImage, SaveImage
from comfy_dist.nodes.core.scaling import ImageScale
from comfy_dist.nodes.core.transforms import ImageCrop
from comfy_dist.nodes.core.values import PreviewAny
from comfy_dist.workspace import PathRefused, Workspace


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


def test_every_class_keeps_comfyuis_contract(workspace: Workspace) -> None:
    for name, cls in core.NODE_CLASS_MAPPINGS.items():
        declared: Any = cls
        assert "required" in declared.INPUT_TYPES(), name
        assert callable(getattr(declared, declared.FUNCTION)), name
    assert set(core.NODE_DISPLAY_NAME_MAPPINGS) <= set(core.NODE_CLASS_MAPPINGS)


def test_an_empty_image_is_one_colour() -> None:
    (image,) = EmptyImage().generate(3, 2, 4, 0xFF8000)
    assert image.shape == (4, 2, 3, 3)
    assert image.dtype == torch.float32
    assert torch.equal(image[3, 1, 2], torch.tensor([1.0, 128 / 255, 0.0]))


class TestLoading:
    def load(self, workspace: Workspace, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        assert LoadImage.VALIDATE_INPUTS(name) is True
        return LoadImage().load_image(name)

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
        for wrong in ("gone.png", "../secret.png", "/etc/passwd", "out.png"):
            assert LoadImage.VALIDATE_INPUTS(wrong) == f"Invalid image file: {wrong}"
        with pytest.raises(PathRefused):
            LoadImage().load_image("../secret.png")

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

    @pytest.mark.parametrize("prefix", ["../out", "a/../../out", "/tmp/out", "..", "a\0b"])
    def test_a_prefix_cannot_leave_the_folder(self, workspace: Workspace, prefix: str) -> None:
        with pytest.raises(PathRefused, match="leads out of the folder output"):
            SaveImage().save_images(noise(1, 2, 2, 3), prefix)
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


@given(st.text(alphabet="ab%/._-0123456789\\", max_size=12), st.text(alphabet="ab_0123456789.", max_size=12))
def test_numbers_are_free_whatever_lies_there(name: str, other: str) -> None:
    number = folders.next_number([other, f"{name}_{other}", f"{name}_00041_.png"], name)
    assert number >= 42


class TestImages:
    @pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"])
    @pytest.mark.parametrize("crop", ["disabled", "center"])
    def test_scaling_gives_the_size_asked_for(self, method: str, crop: str) -> None:
        (image,) = ImageScale().upscale(noise(2, 5, 7, 3), method, 9, 4, crop)
        assert image.shape == (2, 4, 9, 3)
        assert image.dtype == torch.float32

    def test_zero_keeps_the_aspect(self) -> None:
        image = noise(1, 5, 10, 3)
        assert ImageScale().upscale(image, "area", 0, 20, "disabled")[0].shape == (1, 20, 40, 3)
        assert ImageScale().upscale(image, "area", 20, 0, "disabled")[0].shape == (1, 10, 20, 3)
        assert ImageScale().upscale(image, "area", 0, 0, "disabled")[0] is image

    def test_center_cuts_the_sides_off(self) -> None:
        image = torch.zeros(1, 2, 6, 3)
        image[:, :, 2:4] = 1
        (scaled,) = ImageScale().upscale(image, "nearest-exact", 4, 4, "center")
        assert torch.equal(scaled, torch.ones(1, 4, 4, 3))

    def test_video_latents_are_resized_frame_by_frame(self) -> None:
        samples = noise(2, 4, 3, 6, 8)
        scaled = common_upscale(samples, 4, 3, "bilinear", "disabled")
        assert scaled.shape == (2, 4, 3, 3, 4)
        assert torch.equal(scaled[:, :, 1], common_upscale(samples[:, :, 1], 4, 3, "bilinear", "disabled"))

    def test_a_batch_takes_the_size_of_the_first(self) -> None:
        first, second = noise(1, 4, 6, 3), noise(2, 8, 8, 3)
        (both,) = ImageBatch().batch(first, second)
        assert both.shape == (3, 4, 6, 3)
        assert torch.equal(both[:1], first)

    def test_a_crop_ends_at_the_edge(self) -> None:
        image = noise(1, 5, 7, 3)
        assert torch.equal(ImageCrop().crop(image, 3, 2, 1, 2)[0], image[:, 2:4, 1:4])
        assert ImageCrop().crop(image, 30, 20, 100, 100)[0].shape == (1, 1, 1, 3)

    @given(st.integers(1, 5), st.integers(1, 12))
    def test_batches_are_cut_or_repeated(self, size: int, wanted: int) -> None:
        batch = torch.arange(size).reshape(size, 1)
        assert repeat_to_batch_size(batch, wanted).flatten().tolist() == [index % size for index in range(wanted)]


class TestCompositing:
    def test_without_a_mask_the_source_covers(self) -> None:
        destination, source = noise(2, 6, 8, 3), noise(1, 3, 3, 3)
        before = destination.clone()
        (image,) = ImageCompositeMasked().composite(destination, source, 6, 4, False)
        assert torch.equal(destination, before)
        assert torch.equal(image[:, 4:, 6:], source[:, :2, :2].expand(2, -1, -1, -1))
        assert torch.equal(image[:, :4], destination[:, :4])

    def test_the_mask_says_how_much_of_the_source_shows(self) -> None:
        (mask,) = SolidMask().solid(0.25, 3, 3)
        (image,) = ImageCompositeMasked().composite(
            torch.zeros(1, 4, 4, 3), torch.ones(1, 2, 2, 3), 0, 0, True, mask
        )
        assert torch.allclose(image, torch.full((1, 4, 4, 3), 0.25))

    def test_channels_are_those_of_the_destination(self) -> None:
        composite = ImageCompositeMasked().composite
        assert composite(noise(1, 4, 4, 3), noise(1, 4, 4, 4), 0, 0, False)[0].shape[-1] == 3
        (image,) = composite(noise(1, 4, 4, 4), noise(1, 2, 2, 3), 9, 9, False)
        assert image.shape[-1] == 4


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (1, "1"), (True, "True"), (None, "None"), ([1, "a"], '[1, "a"]'), ({1}, "{1}")],
)
def test_any_value_is_shown(value: Any, text: str) -> None:
    assert PreviewAny().main(value) == {"ui": {"text": (text,)}}
