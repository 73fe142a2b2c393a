"""A ComfyUI started by the worker: how it ends, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from comfy_dist.engine import EngineDied, Executed
from comfy_dist.engine.comfyui import ComfyuiEngine, Options, Started
from comfy_dist.errors import ComfyDistError
from tests.engines.conftest import KINDS, STOCK, installation, make_workspace
from tests.engines.running import Subject, color_of, picture, saved, waiting
from tests.support.patience import PATIENCE
from tests.support.processes import Process

pytestmark = pytest.mark.asyncio(loop_scope="session")


CHILDREN = pytest.mark.parametrize("shared_subject", [kind for kind in KINDS if "child" in kind], indirect=True)


def pid_of(subject: Subject) -> int:
    host = subject.engine._host
    assert isinstance(host, Started)
    assert host.pid is not None
    return host.pid


def private_folders(subject: Subject) -> list[Path]:
    return list(subject.workspace.temp.glob("comfyui-*"))


@CHILDREN
async def test_a_killed_comfyui_is_told_with_its_node_and_started_again_and_what_it_wrote_keeps_its_name(
    subject: Subject,
) -> None:
    (first,) = await subject.files(picture(0x123456, "kept"))
    content = first.read_bytes()
    ran = subject.begin(waiting(60, 600))
    await ran.seen("progress")
    os.kill(pid_of(subject), signal.SIGKILL)
    with pytest.raises(EngineDied, match=r"SIGKILL.* while executing node 2 \(TestSleep\)\.$") as death:
        await ran.outcome()
    assert death.value.node == "2"
    await asyncio.wait_for(subject.engine.ended(), PATIENCE)
    assert not subject.engine.running
    with pytest.raises(EngineDied, match="not running"):
        await subject.run(picture(1))
    await subject.engine.start()
    (second,) = await subject.files(picture(0x654321, "kept"))
    assert (first.name, second.name) == ("kept_00001_.png", "kept_00002_.png")
    assert first.read_bytes() == content
    assert len(private_folders(subject)) == 1


#: A worker's process: it saves some pictures and then waits.
_BESIDE = """
import asyncio, json, sys
from pathlib import Path
from comfy_dist.engine.comfyui import ComfyuiEngine, Options, Started
from tests.engines.conftest import installation, make_workspace, stock_installation
from tests.engines.running import Subject, saved

async def work():
    workspace = make_workspace(Path(sys.argv[1]))
    found = stock_installation() if sys.argv[2] == "child-stock" else installation()
    host = Started(found, workspace, Options(device="cpu"))
    engine = ComfyuiEngine(workspace, host)
    await engine.start()
    print("pid", host.pid, file=sys.stderr, flush=True)
    made = await saved(Subject("beside", engine, workspace), "both", range(100, 110))
    print("made", json.dumps({str(path): color for path, color in made.items()}), file=sys.stderr, flush=True)
    await asyncio.Event().wait()

asyncio.run(work())
"""


def _lives(group: int) -> bool:
    """Whether a process of the group is more than a zombie that nobody has waited for."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(its_group) == group and state != "Z":
            return True
    return False


@CHILDREN
async def test_two_in_one_workspace_never_take_each_others_names_and_one_ends_with_its_worker(
    subject: Subject,
) -> None:
    root = subject.workspace.root
    beside = Process([sys.executable, "-c", _BESIDE, str(root), subject.kind], cwd=root, env=STOCK)
    try:
        group = int((await asyncio.to_thread(beside.wait_for, r"^pid (\d+)$"))[1])
        assert os.getpgid(group) == group
        mine = await saved(subject, "both", range(10))
        theirs = json.loads((await asyncio.to_thread(beside.wait_for, r"^made (.+)$"))[1])
        assert len(private_folders(subject)) == 2
        made = mine | {Path(path): color for path, color in theirs.items()}
        assert len(made) == 20
        assert {path: color_of(path) for path in made} == {path: (0, 0, color) for path, color in made.items()}
        os.kill(beside.process.pid, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while _lives(group) or len(private_folders(subject)) > 1:
                await asyncio.sleep(0.05)
    finally:
        beside.kill()
        beside.stop()
    assert isinstance((await subject.run(picture(1)))[1], Executed)


@CHILDREN
async def test_kill_ends_it_and_its_prompt_at_once(subject: Subject) -> None:
    ran = subject.begin(waiting(60, 600))
    await ran.seen("progress")
    await subject.engine.kill()
    with pytest.raises(EngineDied):
        await ran.outcome()
    assert not subject.engine.running
    assert not private_folders(subject)


async def test_a_comfyui_that_does_not_start_says_why(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    engine = ComfyuiEngine(workspace, Started(installation("--fail-at-start"), workspace))
    with pytest.raises(ComfyDistError, match=r"exited with code 1 while it started; its log says why\.$"):
        await engine.start()
    assert not list(workspace.temp.iterdir())


async def test_a_flag_that_this_comfyui_does_not_know_is_named(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    engine = ComfyuiEngine(workspace, Started(installation(), workspace, Options(cache_ram=4)))
    with pytest.raises(ComfyDistError, match=r"does not know --cache-ram; leave it out"):
        await engine.start()
