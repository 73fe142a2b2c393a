"""Broadcasts to called workflows, who is told to be there, and freeing, where there are workers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.distributed.conftest import Workers, graph_engine, working
from tests.distributed.graphs import source
from tests.support.talking import Prompt, node

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    broker = MemoryBroker()
    folder = tmp_path_factory.mktemp("two")
    async with working(folder, 2, lambda: MemoryTransport(broker), graph_engine) as workers:
        saved = workers.workspace.user / "default/workflows"
        saved.mkdir(parents=True, exist_ok=True)
        (saved / "hears.json").write_text(json.dumps(HEARS))
        yield workers


#: Executed by the other worker.
HEARS = {
    "listen": node("ClusterListenTensorBroadcast", channel="styles"),
    "digest": node("DistDigest", value=["listen", 0]),
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


async def test_a_called_workflow_hears_what_its_caller_broadcasts_each_time_it_is_called(two: Workers) -> None:
    for seed in (4, 4, 7):
        ran = await two.done(_broadcasting(seed=seed))
        (result,) = json.loads(ran.shown("text")["results"][0])
        assert result["worker"] == "w1"
        assert result["outputs"]["digest"]["digest"] == ran.digests["digest"]


async def test_a_workflow_that_listens_to_what_nobody_broadcasts_fails_with_a_sentence(two: Workers) -> None:
    ran = await two.run(_broadcasting("other"))
    assert ran.status == "error"
    assert ran.error["node_id"] == "call"
    assert "'styles' (its channels: other" in ran.error["exception_message"]
    assert "worker w1" in ran.error["exception_message"]


async def test_info_lists_the_live_workers_and_is_cached_while_they_are_the_same(two: Workers) -> None:
    prompt = {"info": node("ClusterInfo"), "text": node("PreviewAny", source=["info", 2])}
    for _ in range(2):
        ran = await two.done(prompt)
        lines = ran.shown("text")["text"][0].splitlines()
        assert lines[:2] == ["rank 0 of 1", "2 workers:"]
        assert [line.split(":")[0] for line in lines[2:]] == ["w0", "w1"]
        assert all(": graph on " in line for line in lines[2:])


async def test_finally_free_forgets_what_is_cached_when_the_prompt_has_ended(two: Workers, tmp_path: str) -> None:
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

    await two.done(prompt)
    await two.done(prompt)
    assert executed() == 1
    await two.done(prompt | {"free": free})
    assert executed() == 1
    await two.done(prompt)
    assert executed() == 2
