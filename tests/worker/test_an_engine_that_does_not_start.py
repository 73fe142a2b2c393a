"""Of a worker's two engines one does not start: at first the worker says so, later it works on with the other."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.patience import PATIENCE
from tests.support.processes import REPOSITORY, Process, finished, running
from tests.support.talking import frontend_at, quick, slow
from tests.worker.conftest import comfyui, make_workspace

#: A ComfyUI that starts as often as there are files named "may start" beside it; each start takes one away.
MAIN = """
import runpy, sys
from pathlib import Path

if "--port" in sys.argv:
    for token in Path(__file__).parent.glob("may start*"):
        try:
            token.unlink()
        except FileNotFoundError:
            continue
        break
    else:
        sys.exit("There is no driver for this device.")
runpy.run_path({stand_in!r}, run_name="__main__")
"""


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    folder = tmp_path / "ComfyUI"
    folder.mkdir()
    stand_in = str(REPOSITORY / "tests/engines/stand_in/main.py")
    (folder / "main.py").write_text(MAIN.format(stand_in=stand_in))
    return folder


def may_start(installation: Path, times: int) -> None:
    for number in range(times):
        (installation / f"may start {number}").touch()


def driving(installation: Path) -> list[str]:
    flags = ["--engine", "comfyui", "--comfyui-dir", str(installation), "--comfyui-python", sys.executable]
    return [*flags, "--devices", "cpu,cpu"]


def test_a_worker_of_which_an_engine_does_not_start_says_so_and_leaves_nothing(
    installation: Path, tmp_path: Path
) -> None:
    may_start(installation, 1)
    workspace = make_workspace(tmp_path / "workspace")
    ended = finished(comfyui(workspace, *driving(installation)), cwd=tmp_path)
    assert ended.returncode == 1
    assert "exited with code 1 while it started; its log says why." in ended.stderr
    assert "There is no driver for this device." in ended.stderr
    assert "Traceback" not in ended.stderr
    left = [each for each in psutil.process_iter(["cmdline"]) if str(installation) in str(each.info["cmdline"])]
    assert left == []


async def test_a_worker_works_on_with_the_engine_that_is_left_until_the_other_is_back(
    installation: Path, tmp_path: Path
) -> None:
    may_start(installation, 2)
    workspace = make_workspace(tmp_path / "workspace")
    with running(comfyui(workspace, *driving(installation)), cwd=tmp_path) as service:
        # The lines of its engines stand behind a time of ours too.
        address = await asyncio.to_thread(service.wait_for, r"^\S+ INFO +ComfyUI is at (\S+)")
        await works_on(service, address[1], installation)
    assert "Traceback" not in service.log


async def works_on(service: Process, address: str, installation: Path) -> None:
    async with asyncio.timeout(PATIENCE):
        # The frontend answers when the first is up.
        while service.log.count(" is version ") < 2:
            await asyncio.sleep(0.05)
    engine, _ = psutil.Process(service.process.pid).children()
    async with frontend_at(address) as comfy:
        engine.kill()
        await asyncio.to_thread(service.wait_for, "The engine does not start: .*Trying again in 5 s")
        assert (await comfy.ended(await comfy.prompt(quick())))["status"]["completed"]
        (worker,) = (await comfy.get("/distributed/workers"))["workers"]
        assert worker["state"] == "idle"
        may_start(installation, 1)
        ids = {await comfy.prompt(slow()) for _ in range(2)}
        await comfy.wait(lambda queue: {item[1] for item in queue["queue_running"]} == ids, "/queue")
        await comfy.clear()
