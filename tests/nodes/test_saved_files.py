"""Animations and latents are saved as ComfyUI saves them: `record_files.py` says how its files were recorded."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from comfy_dist.nodes import core, folders, safetensors
from comfy_dist.nodes.core.animation import SaveAnimatedPNG, SaveAnimatedWEBP
from comfy_dist.nodes.core.inputs import UnusableInput
from comfy_dist.nodes.core.latent_files import LoadLatent, SaveLatent
from comfy_dist.nodes.core.svg import SaveSVGNode
from comfy_dist.nodes.safetensors import BrokenFile
from comfy_dist.workspace import PathRefused, Workspace
from tests.nodes.cases._saving import CASES, PROMPT
from tests.nodes.making import Case, convert

RECORDED = Path(__file__).parent / "recorded" / "files"
TOLD: dict[str, Any] = json.loads((RECORDED / "ui.json").read_text("utf-8"))


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    workspace = Workspace.at(tmp_path)
    workspace.create()
    folders.use(workspace)
    yield workspace
    folders.use(workspace)


def saved(case: Case, workspace: Workspace) -> tuple[Path, dict[str, Any]]:
    """The file that our node writes, and what it tells the page."""
    node: Any = core.NODE_CLASS_MAPPINGS[case.node]
    inputs = convert(case.inputs, lambda array: torch.from_numpy(array.copy()))
    told = getattr(node(), node.FUNCTION)(**inputs)["ui"]
    [place] = told["images" if "images" in told else "latents"]
    return workspace.output / place["subfolder"] / place["filename"], told


def frames(path: Path) -> list[tuple[Any, ...]]:
    """Each frame's pixels, and how long it stands."""
    with Image.open(path) as file:
        return [
            (np.asarray(frame.convert("RGBA")).tolist(), frame.info.get("duration"))
            for frame in ImageSequence.Iterator(file)
        ]


def chunks(path: Path, name: bytes) -> list[bytes]:
    """The contents of a PNG's chunks of this name."""
    data, found, at = path.read_bytes(), [], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == name:
            found.append(data[at + 8 : at + 8 + length])
        at += 12 + length
    return found


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_page_is_told_the_same(case: Case, workspace: Workspace) -> None:
    path, told = saved(case, workspace)
    assert json.loads(json.dumps(told)) == TOLD[case.name]
    assert path.is_file()


@pytest.mark.parametrize("case", [each for each in CASES if "Animated" in each.node], ids=lambda case: case.name)
def test_animations_have_the_frames_times_and_words_of_comfyuis(case: Case, workspace: Workspace) -> None:
    path, _ = saved(case, workspace)
    theirs = RECORDED / f"{case.node}-{case.label}{path.suffix}"
    assert frames(path) == frames(theirs)
    if path.suffix == ".png":
        assert chunks(path, b"comf") == chunks(theirs, b"comf")
        assert chunks(path, b"acTL") == chunks(theirs, b"acTL")
    with Image.open(path) as ours, Image.open(theirs) as wanted:
        assert dict(ours.getexif()) == dict(wanted.getexif())
        assert ours.info.get("loop") == wanted.info.get("loop")
        assert ours.mode == wanted.mode


@pytest.mark.parametrize("case", [each for each in CASES if each.node == "SaveLatent"], ids=lambda case: case.name)
def test_latents_are_saved_as_comfyuis(case: Case, workspace: Workspace) -> None:
    path, _ = saved(case, workspace)
    ours, words = safetensors.load(path)
    theirs, their_words = safetensors.load(RECORDED / f"{case.node}-{case.label}.latent")
    assert words == their_words
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_latent_comes_back_as_it_was(workspace: Workspace) -> None:
    samples = torch.randn(2, 16, 3, 5, 7)
    [place] = SaveLatent().save({"samples": samples}, "x")["ui"]["latents"]
    name = f"{place['filename']} [output]"
    assert LoadLatent.VALIDATE_INPUTS(name) is True
    (loaded,) = LoadLatent().load(name)
    assert loaded.keys() == {"samples"}
    assert torch.equal(loaded["samples"], samples)


def test_latents_lying_in_input_are_offered(workspace: Workspace) -> None:
    for name in ("b.latent", "a.latent", "c.png"):
        (workspace.input / name).touch()
    (workspace.input / "folder.latent").mkdir()
    assert LoadLatent.INPUT_TYPES()["required"]["latent"][0] == ["a.latent", "b.latent"]
    assert LoadLatent.VALIDATE_INPUTS("gone.latent") == "Invalid latent file: gone.latent"
    before = LoadLatent.IS_CHANGED("a.latent")
    (workspace.input / "a.latent").write_bytes(b"x")
    assert LoadLatent.IS_CHANGED("a.latent") != before


def test_what_is_no_latent_is_named(workspace: Workspace) -> None:
    (workspace.input / "picture.latent").write_bytes(b"\x89PNG" + bytes(100))
    with pytest.raises(BrokenFile, match=r"picture\.latent is not a safetensors file: it has no header"):
        LoadLatent().load("picture.latent")
    (workspace.input / "model.latent").write_bytes(safetensors.encode({"weight": torch.zeros(2)}))
    with pytest.raises(BrokenFile, match=r"model\.latent holds no latent"):
        LoadLatent().load("model.latent")


def test_files_can_go_without_words(workspace: Workspace) -> None:
    folders.use(workspace, save_metadata=False)
    image = torch.rand(2, 4, 4, 3)
    SaveLatent().save({"samples": torch.zeros(1)}, "x", PROMPT, {"workflow": {}})
    assert safetensors.load(workspace.output / "x_00001_.latent")[1] == {}
    SaveAnimatedPNG().save_images(image, 6.0, 4, "x", PROMPT, {"workflow": {}})
    assert chunks(workspace.output / "x_00002_.png", b"comf") == []
    SaveAnimatedWEBP().save_images(image, 6.0, "x", True, 80, "default", PROMPT, {"workflow": {}})
    with Image.open(workspace.output / "x_00003_.webp") as file:
        assert dict(file.getexif()) == {}


@pytest.mark.parametrize("prefix", ["../out", "a/../../out", ".."])
def test_no_prefix_leaves_the_folder(prefix: str, workspace: Workspace) -> None:
    image = torch.rand(2, 4, 4, 3)
    for save in (
        lambda: SaveLatent().save({"samples": image}, prefix),
        lambda: SaveAnimatedPNG().save_images(image, 6.0, 4, prefix),
        lambda: SaveAnimatedWEBP().save_images(image, 6.0, prefix, True, 80, "default"),
    ):
        with pytest.raises(PathRefused):
            save()
    assert not list(workspace.output.iterdir())


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speed_that_is_none_is_refused(fps: float, workspace: Workspace) -> None:
    with pytest.raises(UnusableInput, match="images in a second make no animation"):
        SaveAnimatedPNG().save_images(torch.rand(2, 4, 4, 3), fps, 4)
    assert not list(workspace.output.iterdir())


def test_no_images_are_no_animation(workspace: Workspace) -> None:
    with pytest.raises(UnusableInput, match="no images"):
        SaveAnimatedWEBP().save_images(torch.zeros(0, 4, 4, 3), 6.0, "x", True, 80, "default")


def test_numbers_beyond_a_picture_are_cut(workspace: Workspace) -> None:
    images = torch.tensor([float("nan"), -3.0, 7.0]).reshape(3, 1, 1, 1).expand(3, 2, 2, 3)
    SaveAnimatedPNG().save_images(images, 6.0, 4, "x")
    values = [frame[0][0][0][0] for frame in frames(workspace.output / "x_00001_.png")]
    assert values == [0, 255]  # the first two frames are alike, and stand as one


class TestSVG:
    class Pictures:
        """As a pack makes them."""

        def __init__(self, *texts: bytes) -> None:
            self.data = [io.BytesIO(text) for text in texts]

    def saved(self, workspace: Workspace, svg: Any, **more: Any) -> list[bytes]:
        told = SaveSVGNode().save_svg(svg, "drawn/%batch_num%", **more)["ui"]["images"]
        assert [each["subfolder"] for each in told] == ["drawn"] * len(told)
        return [(workspace.output / "drawn" / each["filename"]).read_bytes() for each in told]

    def test_each_is_a_file_as_it_was(self, workspace: Workspace) -> None:
        texts = [b"<svg/>", "<svg>\r\n ü </svg>".encode()]
        svg = self.Pictures(*texts)
        svg.data[0].read()
        assert self.saved(workspace, svg) == texts
        assert sorted(path.name for path in (workspace.output / "drawn").iterdir()) == [
            "0_00001_.svg",
            "1_00002_.svg",
        ]

    def test_prompt_and_workflow_are_in_it(self, workspace: Workspace) -> None:
        prompt = {"1": {"inputs": {"text": "]]> & <b>"}}}
        drawing = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="3"><g/><svg/></svg>'
        [text] = self.saved(workspace, self.Pictures(drawing), prompt=prompt, extra_pnginfo={"workflow": [1]})
        first = ET.fromstring(text)[0]
        assert first.tag.endswith("metadata")
        assert json.loads(first.text or "") == {"prompt": prompt, "workflow": [1]}
        assert text.count(b"<metadata>") == 1
        folders.use(workspace, save_metadata=False)
        assert self.saved(workspace, self.Pictures(drawing), prompt=prompt) == [drawing]

    def test_what_is_no_text_is_named(self, workspace: Workspace) -> None:
        with pytest.raises(UnusableInput, match="SVG 0 of the batch is not UTF-8"):
            self.saved(workspace, self.Pictures(b"\xff\xd8"))
