"""The examples for many workers make on three of them, which all take part, what they make on one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comfy_dist.calls.classes import OPENERS
from comfy_dist.workflows.ui_format import to_prompt
from tests.distributed.conftest import Ran, Workers
from tests.support.processes import REPOSITORY
from tests.support.talking import Prompt, node

pytestmark = pytest.mark.asyncio(loop_scope="session")

EXAMPLES = REPOSITORY / "examples/cluster"
#: {example: how many pictures it saves}
PICTURES = {
    "batch-upscale": 6,
    "parameter-sweep": 6,
    "styles-by-images": 18,
    "refinement": 6,
    "named-subgraph": 7,
}
#: Of several nodes that open one region, those that do it beside the others.
BESIDE = "As they were"


def example(name: str) -> Prompt:
    found: Prompt = json.loads((EXAMPLES / f"{name}.api.json").read_text())
    return found


def digested(prompt: Prompt) -> Prompt:
    """With the exact numbers of whatever is saved."""
    saved = {id_: each["inputs"]["images"] for id_, each in prompt.items() if each["class_type"] == "SaveImage"}
    return prompt | {f"digest {id_}": node("DistDigest", value=images) for id_, images in saved.items()}


def meeting(prompt: Prompt, at: Path, workers: int) -> Prompt:
    """With a node in each region where so many workers wait for each other."""
    openers = [
        id_ for id_, each in prompt.items() if each["class_type"] in OPENERS and each["_meta"]["title"] != BESIDE
    ]
    assert openers
    made = {}
    for id_, each in prompt.items():
        inputs = {
            name: [f"meet {value[0]}", 0] if isinstance(value, list) and value[0] in openers else value
            for name, value in each["inputs"].items()
        }
        made[id_] = {**each, "inputs": inputs}
    for id_ in openers:
        made[f"meet {id_}"] = node("DistMeet", value=[id_, 0], at=str(at / id_), workers=workers)
    return made


def saved(ran: Ran, workers: Workers) -> list[tuple[Any, ...]]:
    """Size and every pixel of all pictures, by the nodes that saved them."""
    files = [(id_, file) for id_ in sorted(ran.outputs) for file in ran.outputs[id_].get("images", ())]
    made = []
    for id_, file in files:
        with Image.open(workers.workspace.output / file["subfolder"] / file["filename"]) as picture:
            made.append((id_, picture.size, picture.tobytes()))
    return made


async def test_all_of_them_are_tried_and_told_of() -> None:
    assert {path.name.removesuffix(".api.json") for path in EXAMPLES.glob("*.api.json")} == PICTURES.keys()
    assert {path.stem for path in EXAMPLES.glob("*.png")} == PICTURES.keys()
    readme = (EXAMPLES.parent / "README.md").read_text()
    for name in PICTURES:
        assert f"![](cluster/{name}.png) | **{name}**:" in readme


@pytest.mark.parametrize("name", PICTURES)
async def test_three_workers_make_what_one_makes(three: Workers, one: Workers, tmp_path: Path, name: str) -> None:
    prompt = digested(example(name))
    ran = await three.done(meeting(prompt, tmp_path / "met", 3))
    alone = await one.done(prompt)
    assert ran.digests == alone.digests
    assert ran.digests
    assert saved(ran, three) == saved(alone, one)
    assert len(saved(ran, three)) == PICTURES[name]
    for region in (tmp_path / "met").iterdir():
        assert {path.name for path in region.iterdir()} == {"0", "1", "2"}


@pytest.mark.parametrize("name", PICTURES)
async def test_both_forms_are_the_same_prompt(one: Workers, name: str) -> None:
    workflow = json.loads((EXAMPLES / f"{name}.json").read_text())
    assert to_prompt(workflow, await one.frontend.get("/object_info")) == example(name)
