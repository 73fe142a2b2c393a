"""The examples for remotes make with another worker what they make on one, and each machine another share."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comfy_dist.calls.remote_prompts import QUEUES
from comfy_dist.workflows.ui_format import to_prompt
from tests.distributed.conftest import Workers
from tests.examples.test_cluster_examples import digested, saved
from tests.support.processes import REPOSITORY
from tests.support.talking import Prompt

pytestmark = pytest.mark.asyncio(loop_scope="session")

EXAMPLES = REPOSITORY / "examples/remote"
#: {example: how many pictures it saves}
PICTURES = {"second-machine": 4, "chain": 5, "elsewhere": 1}


def example(name: str, url: str) -> Prompt:
    """Queued there instead of on any worker that is free."""
    found: Prompt = json.loads((EXAMPLES / f"{name}.api.json").read_text())
    queues = [each for each in found.values() if each["class_type"] in QUEUES]
    assert [each["inputs"]["remote_url"] for each in queues] == ["any"] * len(queues)
    for each in queues:
        each["inputs"]["remote_url"] = url
    assert queues
    return found


async def test_all_of_them_are_tried_and_told_of() -> None:
    assert {path.name.removesuffix(".api.json") for path in EXAMPLES.glob("*.api.json")} == PICTURES.keys()
    assert {path.stem for path in EXAMPLES.glob("*.png")} == PICTURES.keys()
    readme = (EXAMPLES.parent / "README.md").read_text()
    for name in PICTURES:
        assert f"![](remote/{name}.png) | **{name}**:" in readme


@pytest.mark.parametrize("name", PICTURES)
async def test_a_remote_makes_what_is_made_in_its_place(three: Workers, name: str) -> None:
    """w0 has the prompt; what is queued on itself it makes in its own process."""
    made: list[list[tuple[Any, ...]]] = []
    digests = []
    for url in ("worker://w1", "any", "worker://w0"):
        ran = await three.done(digested(example(name, url)))
        made.append(saved(ran, three))
        digests.append(ran.digests)
    assert made[0] == made[1] == made[2]
    assert digests[0] == digests[1] == digests[2]
    assert len(made[0]) == PICTURES[name]
    # No two pictures are of one seed.
    assert len({pixels for _, _, pixels in made[0]}) == PICTURES[name]


@pytest.mark.parametrize("name", PICTURES)
async def test_both_forms_are_the_same_prompt(three: Workers, name: str) -> None:
    workflow = json.loads((EXAMPLES / f"{name}.json").read_text())
    assert to_prompt(workflow, await three.frontend.get("/object_info")) == example(name, "any")
