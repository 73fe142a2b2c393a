"""Of a worker's two engines one does not start: at first the worker says so, later it works on with the other."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import psutil
import pytest

from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import Catalogue
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.worker import lane
from tests.support.in_process import Obedient, in_process, prompt
from tests.support.patience import PATIENCE
from tests.support.processes import REPOSITORY, finished
from tests.worker.conftest import comfyui, make_workspace

#: A ComfyUI that starts once.
MAIN = """
import runpy, sys
from pathlib import Path

if "--port" in sys.argv:
    try:
        Path(__file__).with_name("may start").unlink()
    except FileNotFoundError:
        sys.exit("There is no driver for this device.")
runpy.run_path({stand_in!r}, run_name="__main__")
"""


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    folder = tmp_path / "ComfyUI"
    folder.mkdir()
    stand_in = str(REPOSITORY / "tests/engines/stand_in/main.py")
    (folder / "main.py").write_text(MAIN.format(stand_in=stand_in))
    (folder / "may start").touch()
    return folder


def driving(installation: Path) -> list[str]:
    flags = ["--engine", "comfyui", "--comfyui-dir", str(installation), "--comfyui-python", sys.executable]
    return [*flags, "--devices", "cpu,cpu"]


def test_a_worker_of_which_an_engine_does_not_start_says_so_and_leaves_nothing(
    installation: Path, tmp_path: Path
) -> None:
    workspace = make_workspace(tmp_path / "workspace")
    ended = finished(comfyui(workspace, *driving(installation)), cwd=tmp_path)
    assert ended.returncode == 1
    assert "exited with code 1 while it started; its log says why." in ended.stderr
    # The lines of its engines stand behind a time of ours.
    assert re.search(r"^\S+ INFO +There is no driver for this device\.$", ended.stderr, re.MULTILINE)
    assert "Traceback" not in ended.stderr
    left = [each for each in psutil.process_iter(["cmdline"]) if str(installation) in str(each.info["cmdline"])]
    assert left == []


class Unstartable(Obedient):
    """Starts when it is not broken."""

    broken = False

    async def start(self) -> Catalogue:
        if self.broken:
            raise ComfyDistError("There is no driver for this device.")
        return await super().start()


async def test_a_worker_works_on_with_the_engine_that_is_left_until_the_other_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lane, "RESTART_SECONDS", 0.05)
    broker = MemoryBroker()
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        comfy, _ = await cluster.frontend("f")
        engine, _ = (await cluster.worker("w", engines=2, engine=Unstartable)).engines
        await comfy.wait(lambda nodes: "Quick" in nodes, "/object_info")
        assert isinstance(engine, Unstartable)
        async with asyncio.timeout(PATIENCE):
            while not engine.running:
                await asyncio.sleep(0.01)
            engine.broken = True
            await engine.kill()
            said = "The engine does not start: There is no driver for this device. Trying again in 0.05 s."
            while caplog.text.count(said) < 2:
                await asyncio.sleep(0.01)
        assert (await comfy.ended(await comfy.prompt(prompt("Quick"))))["status"]["completed"]
        await comfy.wait(lambda found: found["workers"][0]["state"] == "idle", "/distributed/workers")
        engine.broken = False
        ids = {await comfy.prompt(prompt("Wait")) for _ in range(2)}
        await comfy.wait(lambda queue: {item[1] for item in queue["queue_running"]} == ids, "/queue")
        await comfy.clear()
