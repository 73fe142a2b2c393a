"""What goes wrong in a shared graph is told once, where it is wrong, and all workers are free for the next."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.conftest import Workers
from tests.distributed.graphs import nested, placed, region, undivided
from tests.support.patience import PATIENCE
from tests.support.talking import Prompt, node

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _come(at: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in (at / "come").read_text().splitlines() if line)


async def _until_come(workers: Workers, at: Path, *numbers: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while not {str(number) for number in numbers} <= _come(at).keys():
            await asyncio.sleep(0.01)


def _all_idle(answer: Any) -> bool:
    return {worker["state"] for worker in answer["workers"]} == {"idle"}


def _all_busy(answer: Any) -> bool:
    return {worker["state"] for worker in answer["workers"]} == {"busy"}


def _holding(prompt: Prompt, before: str, at: Path) -> Prompt:
    """Whoever comes to that node holds before it."""
    at.mkdir()
    (at / "come").touch()
    changed = prompt[before]["inputs"] | {"value": ["hold", 0]}
    return prompt | {
        "hold": node("FaultHold", value=prompt[before]["inputs"]["value"], at=str(at)),
        before: node(prompt[before]["class_type"], **changed),
    }


async def _well(workers: Workers, seed: int) -> None:
    """They share a graph as if nothing had been."""
    graph = region("Image", 5, seed=seed)
    assert (await workers.done(placed(graph, 3))).digests == (await workers.done(undivided(graph))).digests


@pytest.mark.parametrize(
    ("make", "before"),
    [(lambda: region("Image", 6), "work"), (lambda: nested(6), "inner work"), (lambda: nested(6), "more")],
    ids=["flat", "nested, inside", "nested, outside"],
)
async def test_an_interrupt_stops_every_rank(three: Workers, make: Any, before: str, tmp_path: Path) -> None:
    prompt = placed(_holding(make(), before, at := tmp_path / "hold"), 3)
    prompt_id = await three.post(prompt)
    await _until_come(three, at, 0, 1, 2)
    # The frontend knows what it is to interrupt, and that nobody is idle yet.
    await three.frontend.running(prompt_id)
    await three.frontend.wait(_all_busy, "/distributed/workers")
    began = time.monotonic()
    await three.frontend.post("/interrupt")
    assert (await three.ended(prompt_id)).status == "error"
    ended = time.monotonic()
    await three.frontend.wait(_all_idle, "/distributed/workers")
    print(f"interrupted: over after {ended - began:.3f} s, all idle after {time.monotonic() - began:.3f} s")
    come = _come(at)
    (at / "go").touch()
    entry = await three.frontend.ended(prompt_id)
    assert [name for name, _ in entry["status"]["messages"]][-1] == "execution_interrupted"
    await _well(three, 21)
    assert _come(at) == come, "nobody began anything more of it"


@pytest.mark.parametrize(("failing", "by"), [("0", {0}), ("1", {1}), ("1,2", {1, 2}), ("0,1,2", {0, 1, 2})])
async def test_a_failure_is_told_with_its_node_and_worker_and_cured_it_succeeds(
    three: Workers, failing: str, by: set[int], tmp_path: Path
) -> None:
    cured = tmp_path / "cured"
    graph = region("Image", 7)
    graph["fails"] = node("DistFail", value=["work", 0], workers=failing, unless=str(cured))
    graph["in"] = node("ClusterFanInImages", input=["fails", 0])
    prompt = placed(graph, 3, str(tmp_path / "met"), 3)
    error = (await three.run(prompt)).error
    assert (error["node_id"], error["node_type"]) == ("fails", "DistFail")
    failed = [worker for worker in by if f"worker {worker} cannot do this" in error["exception_message"]]
    assert len(failed) == 1
    if failed != [0]:
        assert f"on worker w{failed[0]} failed at node fails (DistFail): " in error["exception_message"]
    assert any("distributed_nodes" in line for line in error["traceback"])
    await three.frontend.wait(_all_idle, "/distributed/workers")
    cured.touch()
    expected = await three.done(undivided(graph))
    assert (await three.done(prompt)).digests == expected.digests


async def test_a_failure_in_a_region_inside_another_is_told_of_its_node(three: Workers, tmp_path: Path) -> None:
    graph = nested(6)
    graph["fails"] = node("DistFail", value=["inner work", 0], workers="0,1,2")
    graph["inner in"] = node("ClusterFanInImages", input=["fails", 0])
    error = (await three.run(placed(graph, 3))).error
    assert (error["node_id"], error["node_type"]) == ("fails", "DistFail")
    assert "cannot do this" in error["exception_message"]
    await _well(three, 22)


async def test_a_batch_of_more_chunks_than_a_region_has_is_no_other_case(three: Workers) -> None:
    graph = region("Image", 200)
    graph["out"] = node("ClusterFanOutImage", input=["made", 0], chunks_per_worker=64)
    ran = await three.done(placed(graph, 3))
    assert ran.digests == (await three.done(undivided(graph))).digests


# Bad input


def _images(batch: int = 3) -> dict[str, Any]:
    return node("DistImages", batch=batch, channels=3, seed=1)


def _out(source: str) -> dict[str, Any]:
    return node("ClusterFanOutImage", input=[source, 0])


def _in(source: str) -> dict[str, Any]:
    return node("ClusterFanInImages", input=[source, 0])


def _add(one: str, other: str) -> dict[str, Any]:
    return node("DistAdd", one=[one, 0], other=[other, 0])


def _scale(source: str) -> dict[str, Any]:
    return node("DistScale", value=[source, 0])


def _use(source: str, name: str) -> dict[str, Any]:
    return node("ClusterUseSubgraph", image=[source, 0], subgraph_id=name)


def _start(name: str) -> dict[str, Any]:
    return node("ClusterStartSubgraph", image=["1", 0], subgraph_id=name)


def _end(source: str) -> dict[str, Any]:
    return node("ClusterEndSubgraph", image=[source, 0])


def _executed(path: str) -> dict[str, Any]:
    return node("ClusterExecuteWorkflow", workflow_path=path, image=["1", 0])


def _made(kind: str, source: str = "2") -> dict[str, Any]:
    return node("FaultMake", value=[source, 0], kind=kind)


#: Name -> nodes beside the images "1" and what shows "last"; the node to blame; what is said of it.
BAD: dict[str, tuple[Prompt, str, str]] = {
    "nothing opens": ({"last": _in("1")}, "last", "comes from no node that opens one"),
    "a part with the whole": (
        {"2": _out("1"), "3": _scale("2"), "4": _in("3"), "last": _add("3", "4")},
        "last",
        "takes a rank's part of the region that node 2 (ClusterFanOutImage) opens, and also what",
    ),
    "crossed": (
        {
            "2": _out("1"),
            "3": _scale("2"),
            "4": _out("3"),
            "5": _in("4"),
            "6": _add("4", "5"),
            "last": _in("6"),
        },
        "6",
        "takes a rank's part of the region",
    ),
    "a cycle through it": ({"2": _out("last"), "last": _in("2")}, "last", "Dependency cycle"),
    "a cycle inside": (
        {"2": _out("1"), "3": _add("2", "4"), "4": _scale("3"), "last": _in("4")},
        "4",
        "Dependency cycle",
    ),
    "no such subgraph": ({"last": _use("1", "x")}, "last", "'x', which nothing in this workflow starts"),
    "a subgraph in itself": (
        {"2": _start("x"), "3": _use("2", "x"), "4": _end("3"), "last": _use("1", "x")},
        "last",
        "contains itself: 'x' → 'x'",
    ),
    "two subgraphs in each other": (
        {
            "2": _start("x"),
            "3": _use("2", "y"),
            "last": _end("3"),
            "5": _start("y"),
            "6": _use("5", "x"),
            "7": _end("6"),
        },
        "3",
        "contains itself",
    ),
    "two subgraphs of one name": (
        {"2": _start("x"), "3": _end("2"), "4": _start("x"), "5": _end("4"), "last": _use("1", "x")},
        "last",
        "nodes 2, 4 all start one of that subgraph_id",
    ),
    "a workflow outside": ({"last": _executed("../../../secret.json")}, "last", "leads out of its folder"),
    "a workflow elsewhere": ({"last": _executed("/etc/passwd")}, "last", "absolute path"),
    "a workflow that is not there": ({"last": _executed("none.json")}, "last", "There is no saved workflow"),
    "unequal batches": (
        {
            "masks": node("DistMasks", batch=5, seed=1),
            "2": _out("1"),
            "3": node("ClusterFanOutMask", input=["masks", 0]),
            "4": node("DistMasked", image=["2", 0], mask=["3", 0]),
            "last": _in("4"),
        },
        "last",
        "node 2 has 3 (a tensor [3, 6, 5, 3]); node 3 has 5",
    ),
    "parts of unequal sizes": (
        {"2": _out("1"), "3": _made("sizes"), "last": _in("3")},
        "last",
        "Items of one batch have one size",
    ),
    "a list to divide": (
        {
            "list": node("ClusterSplitBatchToList", image=["1", 0], images_per_list_element=1),
            "2": _out("list"),
            "last": _in("2"),
        },
        "last",
        "A fan out divides one batch, and was given a list of 3",
    ),
    "an object for an image": (
        {"2": _out("1"), "3": _made("object"), "last": _in("3")},
        "last",
        "",
    ),
    "a number for an image": (
        {"2": _out("1"), "3": _made("number"), "last": _in("3")},
        "last",
        "cannot be joined",
    ),
    "an unheard channel": (
        {
            "2": _out("1"),
            "3": node("ClusterListenTensorBroadcast", channel="none"),
            "4": _add("2", "3"),
            "last": _in("4"),
        },
        "3",
        "Nothing in this job broadcasts on the channel 'none'",
    ),
    "a rank's node": ({"last": node("ComfyDistReceived", content="x")}, "last", "sent to a call that is over"),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_is_wrong_is_said_of_the_node_that_is_wrong(three: Workers, case: str) -> None:
    nodes, at_fault, sentence = BAD[case]
    prompt = {"1": _images(), **nodes, "digest": node("DistDigest", value=["last", 0])}
    answer = await three.frontend.ask("POST", "/prompt", json={"prompt": prompt, "extra_data": {"worker": "w0"}})
    if answer.status == 400:
        told = answer.json()
        assert at_fault in told["node_errors"]
        said = str(told)
    else:
        assert answer.status == 200
        ran = await three.ended(answer.json()["prompt_id"])
        assert ran.status == "error"
        assert ran.error["node_id"] == at_fault, ran.error
        said = ran.error["exception_message"]
    assert sentence in said


async def test_after_all_that_everybody_is_alive(three: Workers) -> None:
    await three.frontend.wait(_all_idle, "/distributed/workers")
    await _well(three, 23)
