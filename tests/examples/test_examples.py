"""The examples do what is shown of them, in every form."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops, ImageSequence

from comfy_dist.cli.client import main
from comfy_dist.nodes import safetensors
from comfy_dist.workflows.ui_format import to_prompt
from tests.client.conftest import fetch
from tests.support.commands import called
from tests.support.processes import REPOSITORY, all_in_one

EXAMPLES = REPOSITORY / "examples"
NAMES = sorted(path.name.removesuffix(".api.json") for path in EXAMPLES.glob("*.api.json"))
#: {example: what it makes}
RESULTS = {path.stem: path for path in EXAMPLES.iterdir() if path.suffix in (".png", ".webp", ".latent")}
#: {group of core nodes: one of them}
GROUPS = {
    "images": "ImageCrop",
    "masks": "GrowMask",
    "latents": "LatentComposite",
    "batches of images": "RebatchImages",
    "batches of latents": "LatentBatch",
    "animation": "SaveAnimatedWEBP",
    "primitives": "PrimitiveInt",
    "text": "StringConcatenate",
}
#: Levels of 255: sums of a filter may fall on the other side of a level on another processor.
TOLERANCE = 1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(EXAMPLES / "input", folder / "input")
    with all_in_one(folder) as address:
        yield address


def test_there_are_examples_of_every_group() -> None:
    prompts = [json.loads((EXAMPLES / f"{name}.api.json").read_text()) for name in NAMES]
    used = {node["class_type"] for prompt in prompts for node in prompt.values()}
    assert [group for group, node in GROUPS.items() if node not in used] == []
    assert sorted(RESULTS) == NAMES
    assert all((EXAMPLES / f"{name}.json").exists() for name in NAMES)
    assert {path.suffix for path in RESULTS.values()} == {".png", ".webp", ".latent"}


@pytest.mark.parametrize("name", NAMES)
def test_an_example_makes_what_is_shown_in_every_form(server: str, tmp_path: Path, name: str) -> None:
    forms = [EXAMPLES / f"{name}.api.json", EXAMPLES / f"{name}.json"]
    # Pictures carry their workflow.
    if RESULTS[name].suffix != ".latent":
        forms.append(RESULTS[name])
    command = ["--server", server, "run", *map(str, forms), "--json"]
    done = called(main, *command, "--output", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    runs = json.loads(done.stdout)
    assert len(runs) == len(forms)
    for run in runs:
        [saved] = run["saved"]
        assert_same(Path(saved), RESULTS[name])


def assert_same(made: Path, shown: Path) -> None:
    assert made.suffix == shown.suffix
    if made.suffix == ".latent":
        ours, theirs = (safetensors.load(path)[0]["latent_tensor"] for path in (made, shown))
        assert torch.allclose(ours, theirs, atol=1e-5)
        return
    with Image.open(made) as ours, Image.open(shown) as theirs:
        assert ours.mode == theirs.mode
        for one, other in zip(ImageSequence.Iterator(ours), ImageSequence.Iterator(theirs), strict=True):
            assert one.size == other.size
            assert one.info.get("duration") == other.info.get("duration")
            difference = ImageChops.difference(one.convert("RGBA"), other.convert("RGBA"))
            assert max(most for _, most in difference.getextrema()) <= TOLERANCE


def test_the_postcard_is_called_by_its_text(server: str, tmp_path: Path) -> None:
    command = ["--server", server, "run", str(EXAMPLES / "postcard.json"), "--json"]
    given = ["--set", "Title.value=¡Ein anderer Tag!", "--set", "Day.value= 7 ", "--output", str(tmp_path)]
    done = called(main, *command, *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    [saved] = json.loads(done.stdout)[0]["saved"]
    assert Path(saved).name == "ein-anderer-tag-7_00001_.png"


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_are_the_same_prompt(server: str, name: str) -> None:
    workflow = json.loads((EXAMPLES / f"{name}.json").read_text())
    assert workflow["version"] == 0.4
    assert to_prompt(workflow, fetch(f"{server}/object_info")) == json.loads(
        (EXAMPLES / f"{name}.api.json").read_text()
    )


def test_every_example_is_in_the_readme() -> None:
    text = (EXAMPLES / "README.md").read_text()
    for name, result in RESULTS.items():
        assert f"**{name}**" in text
        assert result.suffix == ".latent" or f"![]({result.name})" in text
