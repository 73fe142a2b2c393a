"""A ComfyUI started by the worker: how it ends, and what it leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from comfy_dist.engine import EngineDied, Executed
from comfy_dist.engine.comfyui import ComfyuiEngine, Options, Started
from comfy_dist.errors import ComfyDistError
from tests.engines.conftest import KINDS, installation, make_workspace, stock_installation
from tests.engines.running import Subject, color_of, picture, waiting
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
async def test_a_killed_comfyui_is_told_with_its_node_and_started_again(subject: Subject) -> None:
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
    assert isinstance((await subject.run(picture(1)))[1], Executed)
    assert len(private_folders(subject)) == 1


@CHILDREN
async def test_kill_ends_it_and_its_prompt_at_once(subject: Subject) -> None:
    ran = subject.begin(waiting(60, 600))
    await ran.seen("progress")
    await subject.engine.kill()
    with pytest.raises(EngineDied):
        await ran.outcome()
    assert not subject.engine.running
    assert not private_folders(subject)


@CHILDREN
async def test_what_it_wrote_before_its_death_keeps_its_name(subject: Subject) -> None:
    (first,) = await subject.files(picture(0x123456, "kept"))
    content = first.read_bytes()
    await subject.engine.kill()
    await subject.engine.start()
    (second,) = await subject.files(picture(0x654321, "kept"))
    assert (first.name, second.name) == ("kept_00001_.png", "kept_00002_.png")
    assert first.read_bytes() == content


@CHILDREN
async def test_two_in_one_workspace_never_take_each_others_names(subject: Subject) -> None:
    found = stock_installation() if subject.kind.endswith("stock") else installation()
    engine = ComfyuiEngine(subject.workspace, Started(found, subject.workspace, Options(device="cpu")))
    beside = Subject("beside", engine, subject.workspace)
    try:
        await engine.start()

        async def save(by: Subject, colors: range) -> dict[Path, int]:
            return {(await by.files(picture(color, "both")))[0]: color for color in colors}

        mine, theirs = await asyncio.gather(save(subject, range(10)), save(beside, range(100, 110)))
        assert len(private_folders(subject)) == 2
    finally:
        await engine.close()
    assert len(mine | theirs) == 20
    assert {path: color_of(path) for path in mine | theirs} == {
        path: (0, 0, color) for path, color in (mine | theirs).items()
    }
    assert isinstance((await subject.run(picture(1)))[1], Executed)


_HOLDER = """
import asyncio, sys
from pathlib import Path
from comfy_dist.engine.comfyui import ComfyuiEngine, Options, Started
from tests.engines.conftest import installation, make_workspace, stock_installation

async def hold():
    workspace = make_workspace(Path(sys.argv[1]))
    found = stock_installation() if sys.argv[2] == "child-stock" else installation()
    host = Started(found, workspace, Options(device="cpu"))
    engine = ComfyuiEngine(workspace, host)
    await engine.start()
    print("pid", host.pid, file=sys.stderr, flush=True)
    await asyncio.Event().wait()

asyncio.run(hold())
"""


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "child" in kind])
async def test_none_is_left_when_the_worker_is_killed(tmp_path: Path, kind: str) -> None:
    variables = {name: value for name, value in os.environ.items() if name.startswith("COMFYUI_")}
    holder = Process([sys.executable, "-c", _HOLDER, str(tmp_path), kind], cwd=tmp_path, env=variables)
    try:
        pid = int((await asyncio.to_thread(holder.wait_for, r"^pid (\d+)$"))[1])
        group = os.getpgid(pid)
        assert group == pid
        os.kill(holder.process.pid, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while _lives(group) or list((tmp_path / "temp").glob("comfyui-*")):
                await asyncio.sleep(0.05)
    finally:
        holder.kill()
        holder.stop()


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
