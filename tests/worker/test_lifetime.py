"""Stopping, killing and starting again: what was accepted runs, what has ended is kept."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.patience import PATIENCE
from tests.support.processes import Process, finished, module
from tests.support.talking import Frontend, frontend_at, node, quick, slow
from tests.worker.conftest import Service, Start, comfyui


def counted(path: Path, label: str, gate: Path | None = None) -> dict[str, Any]:
    """Writes its label each time it runs, then waits for its gate if it has one."""
    return {
        "1": node("TestCounter", path=str(path), label=label, value=label),
        "2": node("TestGate", path=str(gate or path), value=["1", 0]),
        "3": node("TestSink", value=["2", 0]),
    }


def ran(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


async def until_ran(path: Path, label: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while label not in ran(path):
            await asyncio.sleep(0.02)


async def gone(processes: list[psutil.Process]) -> None:
    async with asyncio.timeout(PATIENCE):
        while any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes):
            await asyncio.sleep(0.05)


async def ended_well(comfy: Frontend, *ids: str) -> None:
    for id_ in ids:
        assert (await comfy.ended(id_))["status"]["status_str"] == "success"


def quiet(service: Service) -> None:
    assert "Traceback" not in service.process.log
    assert "ERROR" not in service.process.log


async def test_a_stop_lets_the_running_prompt_finish_and_keeps_the_rest(start: Start, workspace: Path) -> None:
    service, marks, gate = start(workspace), workspace / "marks", workspace / "gate"
    children = service.children
    async with frontend_at(service.address) as comfy, comfy.socket("me") as websocket:
        before = await comfy.prompt(quick())
        await comfy.ended(before)
        running = await comfy.prompt(counted(marks, "running", gate), client_id="me")
        waiting = [await comfy.prompt(counted(marks, label)) for label in ("first", "second")]
        await until_ran(marks, "running")
        service.process.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(service.process.wait_for, "stops as soon as its jobs have ended")
        gate.touch()
        # Who waits for it is told.
        await websocket.end(running)
        assert "execution_success" in websocket.names(running)
    assert service.process.process.wait(PATIENCE) == 0
    await gone(children)
    assert ran(marks) == ["running"]
    quiet(service)

    again = start(workspace)
    async with frontend_at(again.address) as comfy:
        await ended_well(comfy, before, running, *waiting)
        assert list(await comfy.get("/history")) == [before, running, *waiting]
    assert ran(marks) == ["running", "first", "second"]
    assert again.stop() == 0
    quiet(again)

    last = start(workspace, "--max-attempts", "1")
    async with frontend_at(last.address) as comfy:
        assert list(await comfy.get("/history")) == [before, running, *waiting]
        await ended_well(comfy, await comfy.prompt(quick()))
        assert await comfy.queue() == ([], [])
    assert ran(marks) == ["running", "first", "second"]


async def test_a_second_stop_gives_the_running_prompt_back_and_a_restart_runs_it(
    start: Start, workspace: Path
) -> None:
    service, marks, gate = start(workspace, "--max-attempts", "1"), workspace / "marks", workspace / "gate"
    async with frontend_at(service.address) as comfy:
        id_ = await comfy.prompt(counted(marks, "ran", gate))
        await until_ran(marks, "ran")
    service.process.process.send_signal(signal.SIGTERM)
    service.process.wait_for("stops as soon as its jobs have ended")
    assert service.stop() == 0
    assert ran(marks) == ["ran"]
    quiet(service)
    # Given back is not failed: the one attempt that is allowed is still to come.
    gate.touch()
    again = start(workspace, "--max-attempts", "1")
    async with frontend_at(again.address) as comfy:
        await ended_well(comfy, id_)
    assert ran(marks) == ["ran", "ran"]


async def test_after_a_kill_everything_accepted_runs_and_the_history_is_kept(
    start: Start, workspace: Path
) -> None:
    service, marks, gate = start(workspace), workspace / "marks", workspace / "gate"
    async with frontend_at(service.address) as comfy:
        before = await comfy.prompt(quick())
        await comfy.ended(before)
        deleted = await comfy.prompt(quick())
        await comfy.ended(deleted)
        await comfy.post("/history", {"delete": [deleted]})
        await comfy.wait(lambda found: not found, f"/history/{deleted}")
        running = await comfy.prompt(counted(marks, "running", gate), extra_data={"api_key_comfy_org": "k"})
        await until_ran(marks, "running")
        waiting = [await comfy.prompt(counted(marks, label)) for label in ("first", "second")]
        front = await comfy.prompt(counted(marks, "front"), front=True)
        cancelled = await comfy.prompt(counted(marks, "cancelled"))
        await comfy.post("/queue", {"delete": [cancelled]})
        await comfy.wait(lambda queue: len(queue["queue_pending"]) == 3, "/queue")
    children = service.children
    assert children
    service.kill()
    await gone(children)

    gate.touch()
    again = start(workspace)
    async with frontend_at(again.address) as comfy:
        await ended_well(comfy, before, running, *waiting, front)
        assert list(await comfy.get("/history")) == [before, front, running, *waiting]
        assert await comfy.queue() == ([], [])
        assert (await comfy.get(f"/jobs/{cancelled}"))["status"] == "cancelled"
    assert ran(marks) == ["running", "front", "running", "first", "second"]
    quiet(again)


async def test_a_prompt_that_takes_the_whole_process_with_it_is_given_up(start: Start, workspace: Path) -> None:
    marks, id_ = workspace / "marks", ""
    for attempt in (1, 2):
        service = start(workspace, "--max-attempts", "2")
        async with frontend_at(service.address) as comfy:
            id_ = id_ or await comfy.prompt(counted(marks, "ran", workspace / "never"))
            async with asyncio.timeout(PATIENCE):
                while len(ran(marks)) < attempt:
                    await asyncio.sleep(0.02)
            await comfy.running(id_)
            await asyncio.sleep(0.2)
        service.kill()
    service = start(workspace, "--max-attempts", "2")
    async with frontend_at(service.address) as comfy:
        entry = await comfy.ended(id_)
        assert entry["status"]["status_str"] == "error"
        assert "2 times" in entry["status"]["messages"][-1][1]["exception_message"]
        await ended_well(comfy, await comfy.prompt(quick()))
    assert ran(marks) == ["ran", "ran"]


@pytest.mark.parametrize("seconds_between_looks", [0.1, 600])
async def test_no_engine_is_left_behind_by_a_kill(
    start: Start, workspace: Path, seconds_between_looks: float
) -> None:
    service, marks = start(workspace), workspace / "marks"
    async with frontend_at(service.address) as comfy:
        steps = int(600 / seconds_between_looks)
        prompt = counted(marks, "ran")
        prompt["2"]["inputs"] |= {"seconds": 600, "steps": steps}
        await comfy.prompt(prompt)
        await until_ran(marks, "ran")
    children = service.children
    assert children
    service.kill()
    await gone(children)


async def test_a_second_process_on_the_same_files_is_refused(start: Start, workspace: Path) -> None:
    service = start(workspace)
    second = finished(comfyui(workspace), cwd=workspace)
    assert second.returncode == 1
    assert "Another comfyui uses the state folder" in second.stderr
    assert "Traceback" not in second.stderr
    async with frontend_at(service.address) as comfy:
        await ended_well(comfy, await comfy.prompt(quick()))


async def test_a_port_in_use_is_said_in_a_sentence(workspace: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = finished([*comfyui(workspace), "--port", str(port)], cwd=workspace)
    assert ended.returncode == 2
    assert f"Port {port}" in ended.stderr
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_a_stop_while_it_starts_is_a_stop(workspace: Path) -> None:
    process = Process(comfyui(workspace), cwd=workspace)
    async with asyncio.timeout(PATIENCE):
        while not psutil.Process(process.process.pid).children():  # its engine
            await asyncio.sleep(0.02)
    assert process.stop() == 0
    assert "Traceback" not in process.log


@pytest.mark.parametrize("flags", [["--cpu"], ["--distributed-queue-frontend"]])
async def test_a_stop_while_no_broker_answers_is_a_stop(tmp_path: Path, flags: list[str]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        broker = f"amqp://guest:guest@127.0.0.1:{nobody.getsockname()[1]}/"
        arguments = ["--cwd", str(tmp_path), "--port", "0", "--state-directory", str(tmp_path / "state")]
        command = module(
            "comfy_dist.cli.comfyui", *arguments, "--distributed-queue-connection-uri", broker, *flags
        )
        process = Process(command, cwd=tmp_path)
        process.wait_for("does not answer")
        assert process.stop() == 0
    assert "Traceback" not in process.log


async def test_an_interrupted_prompt_is_not_run_again(start: Start, workspace: Path) -> None:
    service = start(workspace)
    async with frontend_at(service.address) as comfy:
        id_ = await comfy.prompt(slow())
        await comfy.running(id_)
        await comfy.post("/interrupt")
        await comfy.ended(id_)
    service.kill()
    again = start(workspace)
    async with frontend_at(again.address) as comfy:
        await ended_well(comfy, await comfy.prompt(quick()))
        assert (await comfy.get("/history"))[id_]["status"]["messages"][-1][0] == "execution_interrupted"
