"""The examples do what their pictures show, in both forms."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from comfy_dist.client.ui_format import to_prompt
from tests.client.conftest import fetch
from tests.support.processes import REPOSITORY, all_in_one, finished, module

EXAMPLES = REPOSITORY / "examples"
NAMES = sorted(path.name.removesuffix(".api.json") for path in EXAMPLES.glob("*.api.json"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(EXAMPLES / "input", folder / "input")
    with all_in_one(folder) as address:
        yield address


def test_there_are_examples() -> None:
    assert len(NAMES) >= 5
    assert all((EXAMPLES / f"{name}.{form}").exists() for name in NAMES for form in ("json", "png"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["api.json", "json", "png"])
def test_an_example_makes_its_picture(server: str, tmp_path: Path, name: str, form: str) -> None:
    command = module("comfy_dist.cli.client", "--server", server, "run", f"{EXAMPLES / name}.{form}", "--json")
    done = finished([*command, "--output", str(tmp_path)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    [saved] = json.loads(done.stdout)[0]["saved"]
    with Image.open(saved) as made, Image.open(EXAMPLES / f"{name}.png") as shown:
        assert made.size == shown.size
        assert made.mode == shown.mode
        assert ImageChops.difference(made, shown).getbbox() is None


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_are_the_same_prompt(server: str, name: str) -> None:
    workflow = json.loads((EXAMPLES / f"{name}.json").read_text())
    assert workflow["version"] == 0.4
    assert to_prompt(workflow, fetch(f"{server}/object_info")) == json.loads(
        (EXAMPLES / f"{name}.api.json").read_text()
    )


def test_every_picture_is_in_the_readme() -> None:
    text = (EXAMPLES / "README.md").read_text()
    assert all(f"![]({name}.png)" in text for name in NAMES)
