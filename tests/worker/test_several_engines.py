"""A worker with an engine for each of its devices: one participant, as many prompts at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.patience import PATIENCE
from tests.support.talking import Frontend, frontend_at, node, quick, slow
from tests.worker.conftest import Service, Start, make_workspace
from tests.worker.marks import gone


@pytest.fixture(scope="module")
def service(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Service:
    folder = make_workspace(tmp_path_factory.mktemp("several"))
    return start(folder, "--devices", "cpu,cpu", "--max-attempts", "1", "--panic-when", "ValueError,Trouble")


@pytest.fixture
async def comfy(service: Service) -> AsyncIterator[Frontend]:
    async with frontend_at(service.address) as frontend:
        yield frontend
        await frontend.clear()


async def until_running(comfy: Frontend, *ids: str) -> dict[str, Any]:
    """The one worker, once it announces that it executes just these, and is idle but for them."""
    state = "busy" if len(ids) == 2 else "idle"

    def as_wanted(found: dict[str, Any]) -> bool:
        told = [(worker["state"], {job["id"] for job in worker["jobs"]}) for worker in found["workers"]]
        return told == [(state, set(ids))]

    (worker,) = (await comfy.wait(lambda found: as_wanted(found) and found, "/distributed/workers"))["workers"]
    return dict(worker)


def pid() -> dict[str, Any]:
    return {"1": node("TestPid"), "2": node("TestSink", value=["1", 0])}


async def shown(comfy: Frontend, id_: str) -> str:
    entry = await comfy.ended(id_)
    assert entry["status"]["status_str"] == "success", entry
    return str(entry["outputs"]["2"]["text"][0])


async def test_it_is_one_worker_with_two_devices(comfy: Frontend) -> None:
    worker = await until_running(comfy)
    assert [device["type"] for device in worker["devices"]] == ["cpu", "cpu"]


async def test_two_prompts_run_at_once_and_a_third_waits(comfy: Frontend) -> None:
    first, second = await comfy.prompt(slow()), await comfy.prompt(slow())
    worker = await until_running(comfy, first, second)
    assert [job["device"] for job in worker["jobs"]] == ["cpu", "cpu"]
    third = await comfy.prompt(quick())
    queue = {"queue_running": {first, second}, "queue_pending": {third}}
    await comfy.wait(lambda found: {key: {item[1] for item in found[key]} for key in found} == queue, "/queue")
    await comfy.post("/interrupt", {"prompt_id": second})
    assert (await comfy.ended(third))["status"]["status_str"] == "success"
    await until_running(comfy, first)
    await comfy.post("/interrupt", {"prompt_id": first})
    for id_ in (first, second):
        assert (await comfy.ended(id_))["status"]["messages"][-1][0] == "execution_interrupted"


async def test_a_node_that_reports_progress_is_interrupted_in_its_engine(
    comfy: Frontend, service: Service
) -> None:
    await until_running(comfy)
    engines = set(service.children)
    id_ = await comfy.prompt(slow())
    await comfy.running(id_)
    await comfy.post("/interrupt")
    assert (await comfy.ended(id_))["status"]["messages"][-1][0] == "execution_interrupted"
    assert set(service.children) == engines


async def test_a_dying_engine_does_not_touch_the_prompt_beside_it(comfy: Frontend, service: Service) -> None:
    beside = await comfy.prompt(slow())
    await until_running(comfy, beside)
    dying = await comfy.prompt({"1": node("TestExit", code=3), "2": node("TestSink", value=["1", 0])})
    entry = await comfy.ended(dying)
    assert "tried once" in entry["status"]["messages"][-1][1]["exception_message"]
    await until_running(comfy, beside)
    await comfy.post("/interrupt", {"prompt_id": beside})
    entry = await comfy.ended(beside)
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"


async def test_freeing_memory_reaches_both_engines(comfy: Frontend) -> None:
    """Each has cached the same prompt, and executes it again afterwards."""
    busy = await comfy.prompt(slow())
    await until_running(comfy, busy)
    cached = quick("kept by the one engine that is idle")
    for _ in range(2):
        last = await comfy.prompt(cached)
        entry = await comfy.ended(last)
    assert cached_nodes(entry) == ["1"]
    await comfy.post("/free", {"unload_models": True, "free_memory": True})
    async with asyncio.timeout(PATIENCE):
        # It is on its way, and a prompt may come before it.
        while cached_nodes(await comfy.ended(await comfy.prompt(cached))) == ["1"]:
            pass
    await comfy.post("/interrupt", {"prompt_id": busy})
    await comfy.ended(busy)


def cached_nodes(entry: dict[str, Any]) -> list[str]:
    (nodes,) = [data["nodes"] for name, data in entry["status"]["messages"] if name == "execution_cached"]
    return list(nodes)


@pytest.mark.parametrize(("exception", "replaced"), [("ValueError", True), ("KeyError", False)])
async def test_an_engine_is_replaced_after_what_it_panics_at(
    comfy: Frontend, exception: str, replaced: bool
) -> None:
    busy = await comfy.prompt(slow())
    await until_running(comfy, busy)
    before = await shown(comfy, await comfy.prompt(pid()))
    failing = {"1": node("TestFail", exception=exception, message="no"), "2": node("TestSink", value=["1", 0])}
    entry = await comfy.ended(await comfy.prompt(failing))
    assert entry["status"]["messages"][-1][1]["exception_type"] == exception
    after = await shown(comfy, await comfy.prompt(pid()))
    assert (before != after) is replaced
    await comfy.post("/interrupt", {"prompt_id": busy})
    await comfy.ended(busy)


async def test_both_engines_end_with_the_worker(service: Service) -> None:
    """The last of these tests: with it the service ends."""
    engines = [each for each in service.children if "comfy_dist.engine" in " ".join(each.cmdline())]
    assert len(engines) == 2
    service.kill()
    await gone(engines)
