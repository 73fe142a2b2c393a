"""Starting, stopping and starting again: what was accepted runs, what has ended is kept."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

import psutil
import pytest

from tests.support.patience import PATIENCE
from tests.support.processes import Process, finished, module
from tests.support.talking import frontend_at, gated, quick
from tests.worker.conftest import Service, Start, comfyui, make_workspace
from tests.worker.marks import counted, ended_well, gone, ran, until_ran


def quiet(service: Service) -> None:
    assert "Traceback" not in service.process.log
    assert "ERROR" not in service.process.log


async def test_a_stop_lets_the_running_prompt_finish_a_second_gives_it_back_and_the_rest_is_kept(
    start: Start, workspace: Path
) -> None:
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

    again, gate = start(workspace, "--max-attempts", "1"), workspace / "another gate"
    async with frontend_at(again.address) as comfy:
        await ended_well(comfy, before, running, *waiting)
        assert list(await comfy.get("/history")) == [before, running, *waiting]
        assert ran(marks) == ["running", "first", "second"]
        given_back = await comfy.prompt(counted(marks, "back", gate))
        await until_ran(marks, "back")
    again.process.process.send_signal(signal.SIGTERM)
    again.process.wait_for("stops as soon as its jobs have ended")
    assert again.stop() == 0
    assert ran(marks) == ["running", "first", "second", "back"]
    quiet(again)

    # Given back is not failed: the one attempt that is allowed is still to come.
    gate.touch()
    last = start(workspace, "--max-attempts", "1")
    async with frontend_at(last.address) as comfy:
        await ended_well(comfy, given_back)
        assert list(await comfy.get("/history")) == [before, running, *waiting, given_back]
        await ended_well(comfy, await comfy.prompt(quick()))
        assert await comfy.queue() == ([], [])
    assert ran(marks) == ["running", "first", "second", "back", "back"]
    assert last.stop() == 0
    quiet(last)


@pytest.fixture(scope="module")
def standing(start: Start, tmp_path_factory: pytest.TempPathFactory) -> tuple[Service, Path]:
    """A service that stays, and its workspace."""
    folder = make_workspace(tmp_path_factory.mktemp("standing"))
    return start(folder), folder


async def test_a_second_process_on_the_same_files_is_refused(standing: tuple[Service, Path]) -> None:
    service, folder = standing
    second = finished(comfyui(folder), cwd=folder)
    assert second.returncode == 1
    assert "Another comfyui uses the state folder" in second.stderr
    assert "Traceback" not in second.stderr
    async with frontend_at(service.address) as comfy:
        await ended_well(comfy, await comfy.prompt(quick()))


async def test_a_drained_all_in_one_goes_on_as_a_frontend(standing: tuple[Service, Path], tmp_path: Path) -> None:
    service, _ = standing
    async with frontend_at(service.address) as comfy:
        name = (await comfy.wait(lambda found: found["workers"], "/distributed/workers"))[0]["name"]
        running = await comfy.prompt(gated(tmp_path / "gate"))
        await comfy.running(running)
        assert (await comfy.post(f"/distributed/workers/{name}", {"drain": True}))["drain"] == {"jobs": [running]}
        waiting = await comfy.prompt(quick())
        (tmp_path / "gate").touch()
        assert (await comfy.ended(running))["status"]["completed"]
        await comfy.wait(lambda found: not found["workers"], "/distributed/workers")
        service.process.wait_for("its frontend goes on")
        assert await comfy.queue() == ([], [waiting])
    assert service.stop() == 0
    assert "Traceback" not in service.process.log


async def test_a_port_in_use_is_said_in_a_sentence_before_anything_starts(workspace: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = finished([*comfyui(workspace), "--port", str(port)], cwd=workspace)
    assert ended.returncode == 2
    assert f"Port {port}" in ended.stderr
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Worker " not in ended.stderr


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
