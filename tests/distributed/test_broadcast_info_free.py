"""Broadcasts to called workflows, who is told to be there, and freeing, where there are workers."""

from __future__ import annotations

import json
import re

import pytest

from tests.distributed.conftest import Workers
from tests.distributed.graphs import source
from tests.support.talking import Prompt, node

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(autouse=True)
def saved(three: Workers) -> None:
    folder = three.workspace.user / "default/workflows"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hears.json").write_text(json.dumps(HEARS))
    (folder / "casts.json").write_text(json.dumps(CASTS))


#: Executed by the other workers.
HEARS = {
    "listen": node("ClusterListenTensorBroadcast", channel="styles"),
    "digest": node("DistDigest", value=["listen", 0]),
}
CASTS = {
    "made": source("Latent", 3, seed=8, masks=2),
    "cast": node("ClusterBroadcastTensor", input=["made", 0], channel="styles"),
    "digest": node("DistDigest", value=["cast", 0]),
}


def _broadcasting(channel: str = "styles", seed: int = 4) -> Prompt:
    return {
        "styles": source("Latent", 3, seed=seed, masks=2),
        "parts": source("Image", 1, channels=3, seed=5),
        "cast": node("ClusterBroadcastTensor", input=["styles", 0], channel=channel),
        "call": node("ClusterExecuteWorkflow", workflow_path="hears.json", image=["parts", 0]),
        "results": node("PreviewAny", source=["call", 1]),
        "digest": node("DistDigest", value=["cast", 0]),
    }


async def test_a_called_workflow_hears_what_its_caller_broadcasts_each_time_it_is_called(three: Workers) -> None:
    for seed in (4, 4, 7):
        ran = await three.done(_broadcasting(seed=seed))
        results = json.loads(ran.shown("text")["results"][0])
        assert sorted(result["worker"] for result in results) == ["w1", "w2"]
        for result in results:
            assert result["outputs"]["digest"]["digest"] == ran.digests["digest"]


#: What is broadcast too late for those who would hear it, or never, and what is said of it.
UNHEARD: dict[str, tuple[Prompt, str]] = {
    "by nobody": (_broadcasting("other"), "'styles' (its channels: other"),
    "by a node that is not executed": (
        {id_: each for id_, each in _broadcasting().items() if id_ != "digest"},
        "One whose output no node takes is not executed",
    ),
    "after it": (
        _broadcasting() | {"cast": node("ClusterBroadcastTensor", input=["call", 0], channel="styles")},
        "is made of what node call gives, which waits for this workflow",
    ),
    "by a workflow called before": (
        {
            "parts": source("Image", 1, channels=3, seed=5),
            "first": node("ClusterExecuteWorkflow", workflow_path="casts.json", image=["parts", 0]),
            "call": node("ClusterExecuteWorkflow", workflow_path="hears.json", image=["first", 0]),
            "results": node("PreviewAny", source=["call", 1]),
        },
        "'styles' (its channels: none",
    ),
}


@pytest.mark.parametrize("how", UNHEARD)
async def test_a_workflow_that_listens_in_vain_fails_with_a_sentence(three: Workers, how: str) -> None:
    prompt, sentence = UNHEARD[how]
    ran = await three.run(prompt)
    assert ran.status == "error"
    assert ran.error["node_id"] == "call"
    assert sentence in ran.error["exception_message"]
    assert re.search("worker w[12]", ran.error["exception_message"])


async def test_info_lists_the_live_workers_and_is_cached_while_they_are_the_same(three: Workers) -> None:
    prompt = {"info": node("ClusterInfo"), "text": node("PreviewAny", source=["info", 2])}
    for _ in range(2):
        ran = await three.done(prompt)
        lines = ran.shown("text")["text"][0].splitlines()
        assert lines[:2] == ["rank 0 of 1", "3 workers:"]
        assert [line.split(":")[0] for line in lines[2:]] == ["w0", "w1", "w2"]
        engine = three.engines[0].name
        assert all(f": {engine} on " in line for line in lines[2:])


async def test_finally_free_forgets_what_is_cached_when_the_prompt_has_ended(
    three: Workers, tmp_path: str
) -> None:
    log = f"{tmp_path}/log"
    prompt = {
        "made": source("Image", 2, channels=3, seed=6),
        "work": node("DistScale", value=["made", 0], log=log),
        "digest": node("DistDigest", value=["work", 0]),
    }
    free = node("ClusterFinallyFree", anything=["work", 0], unload_models=True, free_memory=True)

    def executed() -> int:
        with open(log, encoding="utf-8") as file:
            return len(file.readlines())

    await three.done(prompt)
    await three.done(prompt)
    assert executed() == 1
    await three.done(prompt | {"free": free})
    assert executed() == 1
    await three.done(prompt)
    assert executed() == 2
