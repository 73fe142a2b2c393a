"""An engine may die, hang or be fed broken packs: the service goes on, and says what happened."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.patience import PATIENCE
from tests.support.talking import Frontend, frontend_at, node, quick, slow, three
from tests.worker.conftest import Service, Start, make_workspace

DEATHS = [
    ({"1": node("TestExit", code=3)}, "TestExit", "exited with code 3"),
    ({"1": node("TestAbort")}, "TestAbort", "SIGABRT"),
    ({"1": node("TestSegfault")}, "TestSegfault", "segmentation fault"),
]


@pytest.fixture(scope="module")
def service(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Service:
    folder = make_workspace(tmp_path_factory.mktemp("deaths"))
    packs = folder / "custom_nodes"
    (packs / "no_python.py").write_text("def broken(:\n")
    (packs / "raises").mkdir()
    (packs / "raises/__init__.py").write_text("raise RuntimeError('the pack does not like it here')\n")
    (packs / "exits").mkdir()
    (packs / "exits/__init__.py").write_text("import sys\nsys.exit('goodbye')\n")
    return start(folder, "--max-attempts", "3", "--interrupt-grace", "1s")


@pytest.fixture
async def comfy(service: Service) -> AsyncIterator[Frontend]:
    async with frontend_at(service.address) as frontend:
        yield frontend
        await frontend.clear()


def sunk(prompt: dict[str, Any]) -> dict[str, Any]:
    return {**prompt, "2": node("TestSink", value=["1", 0])}


@pytest.mark.parametrize(("prompt", "class_type", "how"), DEATHS)
async def test_a_prompt_that_kills_its_engine_fails_after_three_attempts(
    comfy: Frontend, prompt: dict[str, Any], class_type: str, how: str
) -> None:
    me = uuid.uuid4().hex
    async with comfy.socket(me) as socket:
        id_ = await comfy.prompt(sunk(prompt), client_id=me)
        behind = await comfy.prompt(quick())
        error = await socket.event("execution_error", prompt_id=id_)
        await socket.end(id_)
    entry = await comfy.ended(id_)
    assert (entry["status"]["status_str"], entry["status"]["completed"]) == ("error", False)
    assert entry["status"]["messages"][-1] == ["execution_error", error]
    assert (error["node_id"], error["node_type"]) == ("1", class_type)
    message = error["exception_message"]
    assert how in message
    assert f"node 1 ({class_type})" in message
    assert "3 times" in message
    assert socket.names(id_).count("execution_start") == 3
    assert (await comfy.ended(behind))["status"]["status_str"] == "success"


async def test_a_prompt_that_kills_its_engine_once_ends_well(comfy: Frontend, tmp_path: Path) -> None:
    prompt = sunk({"1": node("TestExitUnless", path=str(tmp_path / "been here"), value="passed")})
    entry = await comfy.ended(await comfy.prompt(prompt))
    assert entry["status"]["status_str"] == "success"
    assert entry["outputs"]["2"]["text"] == ["passed"]


async def test_a_prompt_that_waits_to_be_tried_again_can_be_cancelled(comfy: Frontend) -> None:
    slow = node("TestSleep", seconds=0.5, steps=1, value="")
    id_ = await comfy.prompt(sunk({"0": slow, "1": node("TestExit", code=7, value=["0", 0])}))
    await comfy.running(id_)
    await comfy.wait(
        lambda queue: id_ in [item[1] for item in queue["queue_pending"]] or not queue["queue_running"], "/queue"
    )
    await comfy.post(f"/jobs/{id_}/cancel")
    await comfy.idle()
    assert (await comfy.get(f"/jobs/{id_}"))["status"] == "cancelled"
    assert (await comfy.ended(await comfy.prompt(quick())))["status"]["completed"]


async def test_a_node_that_reports_progress_is_interrupted_in_its_engine(
    comfy: Frontend, service: Service
) -> None:
    engines = service.children
    id_ = await comfy.prompt(slow())
    await comfy.running(id_)
    await comfy.post("/interrupt")
    assert (await comfy.ended(id_))["status"]["messages"][-1][0] == "execution_interrupted"
    assert service.children == engines


async def test_a_node_that_never_looks_up_costs_its_engine_only(comfy: Frontend, service: Service) -> None:
    (engine,) = service.children
    me = uuid.uuid4().hex
    async with comfy.socket(me) as socket:
        id_ = await comfy.prompt(three(600, 1), client_id=me)
        await socket.event("executing", node="2")
        await comfy.post("/interrupt")
        told = await socket.event("execution_interrupted", prompt_id=id_)
    assert (told["node_id"], told["node_type"]) == ("2", "TestSleep")
    assert (await comfy.ended(id_))["status"]["status_str"] == "error"
    assert not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE
    assert (await comfy.ended(await comfy.prompt(quick())))["status"]["completed"]
    assert "did not stop within 1 s" in service.process.log


async def test_an_idle_engine_that_dies_is_replaced(comfy: Frontend, service: Service) -> None:
    """Killed by the system, for want of memory. It comes back without a prompt, and costs none an attempt."""
    (engine,) = service.children
    engine.kill()
    await comfy.post("/free", {"free_memory": True})

    async def another() -> bool:
        return any(child.pid != engine.pid and child.is_running() for child in service.children)

    async with asyncio.timeout(PATIENCE):
        while not await another():
            await asyncio.sleep(0.05)
    assert (await comfy.ended(await comfy.prompt(quick())))["status"]["completed"]


async def test_what_nodes_print_does_no_harm(comfy: Frontend) -> None:
    prompt = sunk({"1": node("TestPrint", text=f"printed {uuid.uuid4()} \x01\xff\n{{}}")})
    entry = await comfy.ended(await comfy.prompt(prompt))
    assert entry["status"]["completed"]


async def test_broken_packs_are_left_out_and_named(comfy: Frontend, service: Service) -> None:
    known = await comfy.get("/object_info")
    assert {"TestSleep", "SaveImage"} <= known.keys()
    for pack, why in (("no_python", "invalid syntax"), ("raises", "does not like it here"), ("exits", "goodbye")):
        assert any(pack in line and why in line for line in service.process.lines), pack


async def test_no_death_made_the_service_stumble(service: Service) -> None:
    assert service.process.process.poll() is None
    frames = [
        line for line in service.process.lines if "comfy_dist/worker" in line or "comfy_dist/frontend" in line
    ]
    assert frames == []


@pytest.fixture(scope="module")
def strict_service(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Service:
    folder = make_workspace(tmp_path_factory.mktemp("strict"))
    return start(folder, "--max-attempts", "1", "--max-queue-size", "2")


@pytest.fixture
async def strict(strict_service: Service) -> AsyncIterator[Frontend]:
    """Tries a prompt once, and takes two at a time."""
    async with frontend_at(strict_service.address) as frontend:
        yield frontend
        await frontend.clear()


async def test_with_one_attempt_a_prompt_is_tried_once(strict: Frontend) -> None:
    id_ = await strict.prompt(sunk({"1": node("TestExit", code=4)}))
    error = (await strict.ended(id_))["status"]["messages"][-1][1]
    assert "exited with code 4" in error["exception_message"]
    assert "once" in error["exception_message"]
    assert (await strict.ended(await strict.prompt(quick())))["status"]["completed"]


async def test_a_full_queue_is_refused_until_there_is_room(strict: Frontend) -> None:
    running = await strict.prompt(slow())
    await strict.running(running)
    body = {"prompt": quick(), "prompt_id": "waits"}
    await strict.post("/prompt", body)
    answer = await strict.ask("POST", "/prompt", json={"prompt": quick()})
    assert (answer.status, answer.error["type"]) == (429, "queue_full")
    # What is accepted already may be given again.
    await strict.post("/prompt", body)
    await strict.post("/interrupt")
    await strict.ended("waits")
    assert (await strict.ended(await strict.prompt(quick())))["status"]["completed"]
