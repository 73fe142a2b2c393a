"""The examples for every worker make on three of them what each would make alone with its seed and its value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from comfy_dist.calls.differing import seed_of
from comfy_dist.workflows.ui_format import to_prompt
from tests.distributed.conftest import Ran, Workers
from tests.examples.test_cluster_examples import saved
from tests.support.processes import REPOSITORY
from tests.support.talking import Prompt, node

pytestmark = pytest.mark.asyncio(loop_scope="session")

EXAMPLES = REPOSITORY / "examples/distributed"
#: {example: how many pictures it saves on three workers}
PICTURES = {"weather": 3, "lights": 3, "least-loaded": 6}


def example(name: str) -> Prompt:
    found: Prompt = json.loads((EXAMPLES / f"{name}.api.json").read_text())
    return found


def meeting(prompt: Prompt, at: Path) -> Prompt:
    """With a node before the collector where three workers wait for each other."""
    ((id_, collector),) = (
        (id_, each) for id_, each in prompt.items() if each["class_type"] == "DistributedCollector"
    )
    images = collector["inputs"]["images"]
    meet = node("DistMeet", value=images, at=str(at), workers=3)
    return prompt | {
        "meet": meet,
        id_: {**collector, "inputs": {**collector["inputs"], "images": ["meet", 0]}},
    }


async def alone(three: Workers, prompt: Prompt) -> Ran:
    """What one worker makes of it."""
    extra = {"worker": "w0", "distributed": {"workers": ["w0"]}}
    ran = await three.ended(await three.frontend.prompt(prompt, extra_data=extra))
    assert ran.status == "success", ran.error
    return ran


def shares(name: str, prompt: Prompt) -> list[Prompt]:
    """What the share of each worker is, for one worker."""
    made = []
    for share in range(3):
        copy: dict[str, Any] = json.loads(json.dumps(prompt))
        for each in copy.values():
            if each["class_type"] == "DistributedSeed":
                each["inputs"]["seed"] = seed_of(each["inputs"]["seed"], share)
            if each["class_type"] == "DistributedValue" and share:
                each["inputs"]["default_value"] = json.loads(each["inputs"]["worker_values"])[str(share)]
        made.append(copy)
    return made


async def test_all_of_them_are_tried_and_told_of() -> None:
    assert {path.name.removesuffix(".api.json") for path in EXAMPLES.glob("*.api.json")} == PICTURES.keys()
    assert {path.stem for path in EXAMPLES.glob("*.png")} == PICTURES.keys()
    readme = (EXAMPLES.parent / "README.md").read_text()
    for name in PICTURES:
        assert f"![](distributed/{name}.png) | **{name}**:" in readme


@pytest.mark.parametrize("name", ["weather", "lights"])
async def test_every_worker_makes_its_own(three: Workers, tmp_path: Path, name: str) -> None:
    made = saved(await three.done(meeting(example(name), tmp_path / "met")), three)
    expected = [
        picture for share in shares(name, example(name)) for picture in saved(await alone(three, share), three)
    ]
    assert made == expected
    assert len(made) == PICTURES[name]
    assert len({pixels for _, _, pixels in made}) == PICTURES[name]


async def test_the_least_loaded_makes_what_one_makes(three: Workers) -> None:
    made = saved(await three.done(example("least-loaded")), three)
    assert made == saved(await alone(three, example("least-loaded")), three)
    assert len(made) == PICTURES["least-loaded"]


@pytest.mark.parametrize("name", PICTURES)
async def test_both_forms_are_the_same_prompt(three: Workers, name: str) -> None:
    workflow = json.loads((EXAMPLES / f"{name}.json").read_text())
    assert to_prompt(workflow, await three.frontend.get("/object_info")) == example(name)
