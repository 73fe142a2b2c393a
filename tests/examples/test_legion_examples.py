"""The examples for Legion make in processes of their own what they make anywhere in the cluster."""

from __future__ import annotations

import json

import pytest
import yaml

from comfy_dist.workflows.ui_format import to_prompt
from tests.distributed.conftest import Workers
from tests.examples.test_cluster_examples import digested, saved
from tests.support.processes import REPOSITORY
from tests.support.talking import Prompt

pytestmark = pytest.mark.asyncio(loop_scope="session")

EXAMPLES = REPOSITORY / "examples/legion"
NAMES = ("in-a-process", "beside", "warm")
#: Width and height of what each saves.
SIZES = {"in-a-process": (480, 320), "beside": (1456, 320), "warm": (512, 384)}


def example(name: str) -> Prompt:
    found: Prompt = json.loads((EXAMPLES / f"{name}.api.json").read_text())
    return found


def anywhere(prompt: Prompt) -> Prompt:
    """In no process of its own."""
    made = json.loads(json.dumps(prompt))
    for each in made.values():
        if each["class_type"] == "LegionConfig":
            configuration = yaml.safe_load(each["inputs"]["config_yaml"])
            configuration["comfyui"] = {"type": "cluster"}
            each["inputs"]["config_yaml"] = yaml.safe_dump(configuration)
    return dict(made)


async def test_all_of_them_are_tried_and_told_of() -> None:
    assert {path.name.removesuffix(".api.json") for path in EXAMPLES.glob("*.api.json")} == set(NAMES)
    assert {path.stem for path in EXAMPLES.glob("*.png")} == set(NAMES)
    readme = (EXAMPLES.parent / "README.md").read_text()
    for name in NAMES:
        assert f"![](legion/{name}.png) | **{name}**:" in readme


@pytest.mark.parametrize("name", NAMES)
async def test_a_process_of_its_own_makes_what_is_made_anywhere(one: Workers, name: str) -> None:
    ran = await one.done(digested(example(name)))
    elsewhere = await one.done(digested(anywhere(example(name))))
    assert ran.digests == elsewhere.digests
    assert saved(ran, one) == saved(elsewhere, one)
    assert [size for _, size, _ in saved(ran, one)] == [SIZES[name]]


@pytest.mark.parametrize("name", NAMES)
async def test_both_forms_are_the_same_prompt(one: Workers, name: str) -> None:
    workflow = json.loads((EXAMPLES / f"{name}.json").read_text())
    assert to_prompt(workflow, await one.frontend.get("/object_info")) == example(name)
