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
from tests.support.talking import Frontend, frontend_at, node, quick, three
from tests.worker.conftest import Service, Start, make_workspace


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


async def test_a_prompt_that_kills_its_engine_fails_after_three_attempts(comfy: Frontend, tmp_path: Path) -> None:
    """However it does: each time another way."""
    me = uuid.uuid4().hex
    async with comfy.socket(me) as socket:
        id_ = await comfy.prompt(sunk({"1": node("TestDie", path=str(tmp_path / "deaths"))}), client_id=me)
        behind = await comfy.prompt(quick())
        error = await socket.event("execution_error", prompt_id=id_)
        await socket.end(id_)
    entry = await comfy.ended(id_)
    assert (entry["status"]["status_str"], entry["status"]["completed"]) == ("error", False)
    assert entry["status"]["messages"][-1] == ["execution_error", error]
    assert (error["node_id"], error["node_type"]) == ("1", "TestDie")
    message = error["exception_message"]
    signals = ("signal 6 (SIGABRT)", "signal 11 (SIGSEGV, segmentation fault)")
    for how in ("exited with code 3", *(f"was ended by {each}" for each in signals)):
        assert how in message
    assert "node 1 (TestDie)" in message
    assert "3 times" in message
    assert socket.names(id_).count("execution_start") == 3
    assert (await comfy.ended(behind))["status"]["status_str"] == "success"


async def test_a_prompt_that_kills_its_engine_once_ends_well(comfy: Frontend, tmp_path: Path) -> None:
    prompt = sunk({"1": node("TestExitUnless", path=str(tmp_path / "been here"), value="passed")})
    entry = await comfy.ended(await comfy.prompt(prompt))
    assert entry["status"]["status_str"] == "success"
    assert entry["outputs"]["2"]["text"] == ["passed"]


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
    await asyncio.to_thread(service.process.wait_for, "did not stop within 1 s")


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
        await asyncio.to_thread(service.process.wait_for, f"{pack}.*{why}")


async def test_no_death_made_the_service_stumble(service: Service) -> None:
    assert service.process.process.poll() is None
    frames = [
        line for line in service.process.lines if "comfy_dist/worker" in line or "comfy_dist/frontend" in line
    ]
    assert frames == []
