"""A distributed graph that is queued again: what did not change is not done again, what failed is."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.conftest import Workers
from tests.distributed.graphs import nested, placed, region, showing_inside, undivided, with_a_model
from tests.support.talking import Prompt, node

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _told(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def _with(prompt: Prompt, id_: str, **inputs: Any) -> Prompt:
    return prompt | {id_: node(prompt[id_]["class_type"], **prompt[id_]["inputs"] | inputs)}


async def test_the_very_same_again_is_cached_and_sends_nothing(three: Workers, tmp_path: Path) -> None:
    log = tmp_path / "log"
    prompt = _with(region("Image", 7), "work", log=str(log))
    prompt = placed(prompt, 3, str(tmp_path / "met"), 3)
    first = await three.done(prompt)
    told = _told(log)
    assert sum(line["items"] for line in told) == 7
    assert {line["worker"] for line in told} == {0, 1, 2}
    for _ in range(2):
        again = await three.done(prompt)
        assert again.outputs == first.outputs
        assert _told(log) == told


@pytest.mark.parametrize("change", [{"by": 5.0}, {"add": 0.75}])
async def test_a_change_within_the_region_alone_is_executed_by_all(
    three: Workers, change: dict[str, float], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    original = _with(region("Image", 7), "work", log=str(log))
    changed = _with(original, "work", **change)
    before = await three.done(placed(original, 3, str(tmp_path / "met"), 3))
    told = len(_told(log))
    after = await three.done(placed(changed, 3, str(tmp_path / "met again"), 3))
    assert after.digests != before.digests
    assert sum(line["items"] for line in _told(log)[told:]) == 7
    assert after.digests == (await three.done(undivided(changed))).digests


async def test_a_change_after_the_region_executes_nothing_in_it(three: Workers, tmp_path: Path) -> None:
    log = tmp_path / "log"
    prompt = _with(region("Image", 7), "work", log=str(log))
    prompt["after"] = node("DistScale", value=["in", 0], by=1.5)
    prompt["digest"] = node("DistDigest", value=["after", 0])
    prompt = placed(prompt, 3, str(tmp_path / "met"), 3)
    first = await three.done(prompt)
    told = _told(log)
    second = await three.done(_with(prompt, "after", by=2.5))
    assert second.digests != first.digests
    assert _told(log) == told


async def test_each_worker_loads_a_model_once(three: Workers, tmp_path: Path) -> None:
    log = tmp_path / "log"
    prompt = with_a_model(7)
    prompt["model"] = node("DistModel", factor=["factor", 0], log=str(log))
    for factor in (1.0, 2.0, 3.0):
        prompt["after"] = node("DistScale", value=["work", 0], by=factor)
        prompt["in"] = node("ClusterFanInImages", input=["after", 0])
        await three.done(placed(prompt, 3, str(tmp_path / f"met {factor}"), 3))
    assert Counter(line["worker"] for line in _told(log)) == {0: 1, 1: 1, 2: 1}


async def test_a_rank_that_fails_fails_the_parent_with_its_words_and_the_next_try_ends(
    three: Workers, tmp_path: Path
) -> None:
    cured = tmp_path / "cured"
    prompt = region("Image", 7)
    prompt["fails"] = node("DistFail", value=["work", 0], workers="1,2", unless=str(cured))
    prompt["in"] = node("ClusterFanInImages", input=["fails", 0])
    failing = placed(prompt, 3, str(tmp_path / "met"), 3)
    ran = await three.run(failing)
    assert ran.status == "error"
    message = ran.error["exception_message"]
    assert "cannot do this" in message
    assert "w1" in message or "w2" in message
    assert "DistFail" in message
    cured.touch()
    expected = (await three.done(undivided(prompt))).digests
    for _ in range(2):
        assert (await three.done(failing)).digests == expected


async def test_an_engine_that_dies_in_a_rank_costs_nothing(three: Workers, tmp_path: Path) -> None:
    """Its chunk is done by others, or by it when it is back."""
    pid = three.engines[1].pid
    prompt = region("Image", 7)
    prompt["dies"] = node("DistCrash", value=["work", 0], workers="1", unless=str(tmp_path / "died"))
    prompt["in"] = node("ClusterFanInImages", input=["dies", 0])
    ran = await three.done(placed(prompt, 3, str(tmp_path / "met"), 3))
    assert (tmp_path / "died").exists()
    await three.restarted(1, pid)
    assert ran.digests == (await three.done(undivided(prompt))).digests


@pytest.mark.parametrize("make", [showing_inside, nested])
async def test_what_shows_or_divides_inside_is_the_same_again(three: Workers, make: Any, tmp_path: Path) -> None:
    prompt = placed(make(7), 3, str(tmp_path / "met"), 3)
    expected = (await three.done(undivided(make(7)))).outputs
    for _ in range(3):
        assert (await three.done(prompt)).outputs == expected


async def test_output_nodes_inside_run_once_for_each_item(three: Workers, tmp_path: Path) -> None:
    log = tmp_path / "log"
    prompt = _with(showing_inside(7), "shown", log=str(log))
    ran = await three.done(placed(prompt, 3, str(tmp_path / "met"), 3))
    assert len(ran.shown("shown")["shown"]) == 7
    assert sum(line["items"] for line in _told(log)) == 7


async def test_pictures_saved_inside_are_all_there_in_order(three: Workers, tmp_path: Path) -> None:
    prompt = region("Image", 7)
    prompt["saved"] = node("SaveImage", images=["work", 0], filename_prefix="inside")
    ran = await three.done(placed(prompt, 3, str(tmp_path / "met"), 3))
    images = ran.outputs["saved"]["images"]
    assert len({image["filename"] for image in images}) == 7
    for image in images:
        assert (three.workspace.output / image["subfolder"] / image["filename"]).is_file()
