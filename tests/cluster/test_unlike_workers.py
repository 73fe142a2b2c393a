"""Workers with other nodes than each other: a prompt runs where its nodes are."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

import pytest

from tests.cluster.conftest import Cluster
from tests.support.patience import PATIENCE
from tests.support.rabbitmq import Rabbit
from tests.support.talking import Frontend, frontend_at, node, quick, slow, three


@pytest.fixture(scope="module")
def unlike(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, str]]:
    """Two workers without node packs, whose names come first, one with them, and a frontend's address."""
    cluster = Cluster(tmp_path_factory.mktemp("unlike"), rabbit.uri, f"test-{uuid.uuid4().hex[:8]}")
    for name in ("bare-1", "bare-2"):
        (cluster.folder / name).mkdir()
        cluster.worker(name, "--cwd", str(cluster.folder / name))
    cluster.worker("rich")
    _, address = cluster.frontend("a")
    yield cluster, address
    cluster.stop()


async def until_all_are_known(comfy: Frontend) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            workers = (await comfy.get("/distributed/workers"))["workers"]
            nodes = await comfy.get("/object_info")
            if [each["state"] for each in workers] == ["idle"] * 3 and "TestSleep" in nodes:
                return
            await asyncio.sleep(0.1)


async def test_a_prompt_runs_where_its_nodes_are(unlike: tuple[Cluster, str]) -> None:
    async with frontend_at(unlike[1]) as comfy:
        await until_all_are_known(comfy)
        ids = [await comfy.prompt(three()) for _ in range(4)]
        for id_ in ids:
            assert (await comfy.ended(id_))["status"]["status_str"] == "success"
        await until_counted(comfy, {"bare-1": 0, "bare-2": 0, "rich": 4})


async def until_counted(comfy: Frontend, finished: dict[str, int]) -> None:
    """Until the workers announce to have finished so many, and failed none."""
    async with asyncio.timeout(PATIENCE):
        while True:
            workers = (await comfy.get("/distributed/workers"))["workers"]
            assert not any(each["failed"] for each in workers)
            if {each["name"]: each["finished"] for each in workers} == finished:
                return
            await asyncio.sleep(0.05)


async def test_inputs_are_judged_by_a_worker_that_has_the_nodes(unlike: tuple[Cluster, str]) -> None:
    prompt = {"1": node("TestValidated", number=3, other=1), "2": node("TestSink", value=["1", 0])}
    async with frontend_at(unlike[1]) as comfy:
        await until_all_are_known(comfy)
        answer = await comfy.ask("POST", "/prompt", json={"prompt": prompt})
    assert answer.status == 400
    (error,) = answer.json()["node_errors"]["1"]["errors"]
    assert error["type"] == "custom_validation_failed"


async def test_a_prompt_that_all_have_the_nodes_of_runs_anywhere(unlike: tuple[Cluster, str]) -> None:
    async with frontend_at(unlike[1]) as comfy:
        await until_all_are_known(comfy)
        for _ in range(6):
            assert (await comfy.ended(await comfy.prompt(quick())))["status"]["status_str"] == "success"


async def test_one_that_waits_for_its_nodes_can_be_cancelled(unlike: tuple[Cluster, str]) -> None:
    async with frontend_at(unlike[1]) as comfy:
        await until_all_are_known(comfy)
        busy = await comfy.prompt(slow())
        async with asyncio.timeout(PATIENCE):
            while busy not in [item[1] for item in (await comfy.get("/queue"))["queue_running"]]:
                await asyncio.sleep(0.05)
        waiting = await comfy.prompt(three())
        await comfy.post("/queue", {"delete": [waiting]})
        queue = await comfy.get("/queue")
        assert [item[1] for item in queue["queue_running"]] == [busy]
        assert queue["queue_pending"] == []
        await comfy.post("/interrupt", {"prompt_id": busy})
        assert (await comfy.ended(busy))["status"]["messages"][-1][0] == "execution_interrupted"
