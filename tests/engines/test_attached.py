"""A ComfyUI that runs already: lost connections, earlier attempts, and others' prompts."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from comfy_dist.engine import EngineDied, Executed, Interrupted
from comfy_dist.engine.comfyui import Address, Attached, ComfyuiEngine
from comfy_dist.messages import Job
from comfy_dist.workspace import Workspace
from tests.engines.conftest import COMFYUI_DIR, Theirs, make_workspace
from tests.engines.running import Ran, Subject, color_of, gated, node, picture, waiting
from tests.engines.wire import Wire
from tests.support.patience import PATIENCE


@pytest.fixture(params=["stand-in", *(["stock"] if COMFYUI_DIR else [])])
def theirs(request: pytest.FixtureRequest, running_comfyui: Callable[[str], Theirs]) -> Theirs:
    return running_comfyui(request.param)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "ours")


@asynccontextmanager
async def attached(address: str, workspace: Workspace, patience: float = 30.0) -> AsyncIterator[Subject]:
    engine = ComfyuiEngine(workspace, Attached(Address.parse(address), start_seconds=PATIENCE, patience=patience))
    try:
        await engine.start()
        yield Subject("attached", engine, workspace, address=address)
    finally:
        await engine.close()


async def test_a_cut_connection_loses_neither_what_a_node_shows_nor_the_end(
    theirs: Theirs, workspace: Workspace
) -> None:
    async with Wire(theirs.address) as wire, attached(wire.address, workspace) as subject:
        prompt = waiting(1.5, 15) | {
            "8": node("EmptyImage", width=8, height=8, batch_size=1, color=0xAABBCC),
            "9": node("SaveImage", images=["8", 0], filename_prefix="gap"),
        }
        ran = subject.begin(prompt)
        await ran.seen("progress")
        wire.cut()
        outcome = await ran.outcome()
        assert isinstance(outcome, Executed)
        assert ran.names.count("executed") == 2
        assert ran.shown == outcome.outputs
        assert color_of(subject.paths(outcome, "9")[0]) == (0xAA, 0xBB, 0xCC)
        assert outcome.messages[-1][0] == "execution_success"


async def test_a_prompt_that_ends_while_nobody_listens_ends_here_once(
    theirs: Theirs, workspace: Workspace
) -> None:
    async with Wire(theirs.address) as wire, attached(wire.address, workspace) as subject:
        ran = subject.begin(waiting(0.6, 6))
        await ran.seen("progress")
        # Every connection is cut until it has ended there.
        async with aiohttp.ClientSession() as session:
            while (await entry(session, theirs.address, ran.job.id)) is None:
                wire.cut()
                await asyncio.sleep(0.02)
        outcome = await ran.outcome()
        assert isinstance(outcome, Executed)
        assert ran.names.count("executed") == 1
        assert isinstance((await subject.run(picture(1)))[1], Executed)


async def test_a_connection_that_dies_late_deafens_nobody(
    theirs: Theirs, workspace: Workspace, tmp_path: Path
) -> None:
    async with Wire(theirs.address) as wire, attached(wire.address, workspace) as subject:
        ran = subject.begin(gated(tmp_path / "gate"))
        await ran.seen("progress")
        before = wire.count
        wire.hang()
        while wire.count == before:
            await asyncio.sleep(0.02)
        # ComfyUI takes the new connection, of the same client, for the one that has just died.
        wire.notice()
        (tmp_path / "gate").touch()
        assert isinstance(await ran.outcome(), Executed)
        after, outcome = await subject.run(picture(0x123123))
        assert isinstance(outcome, Executed)
        assert {"executing", "executed", "execution_success"} <= set(after.names)


async def entry(session: aiohttp.ClientSession, address: str, prompt_id: str) -> object:
    async with session.get(f"{address}/history/{prompt_id}") as response:
        return (await response.json()).get(prompt_id)


async def test_one_that_stays_out_of_reach_has_died_and_comes_back(theirs: Theirs, workspace: Workspace) -> None:
    async with AsyncExitStack() as stack:
        wire = await stack.enter_async_context(Wire(theirs.address))
        subject = await stack.enter_async_context(attached(wire.address, workspace, patience=0.5))
        ran = subject.begin(waiting(60, 600))
        await ran.seen("progress")
        wire.refuse()
        with pytest.raises(EngineDied, match=r"is out of reach .*while executing node 2 \(TestSleep\)\.$"):
            await ran.outcome()
        await asyncio.wait_for(subject.engine.ended(), PATIENCE)
        assert not subject.engine.running
        async with attached(theirs.address, workspace) as another:
            # What is left of it runs on: who looks for it there finds it.
            adopted = another.begin(ran.job.prompt, id=ran.job.id)
            while not another.engine.running or "TestSleep" not in await queued(theirs.address):
                await asyncio.sleep(0.05)
            await another.engine.interrupt(ran.job.id)
            assert isinstance(await adopted.outcome(), Interrupted)


async def queued(address: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{address}/queue") as response:
        return await response.text()


async def test_an_earlier_attempts_prompt_is_not_executed_twice(
    theirs: Theirs, workspace: Workspace, tmp_path: Path
) -> None:
    count = tmp_path / "count"
    prompt = {
        "1": node("TestCounter", path=str(count)),
        "2": node("TestSleep", seconds=1.0, steps=10, value=["1", 0]),
        "3": node("TestSink", value=["2", 0]),
    }
    job = Job(id=f"attempts-{uuid.uuid4().hex}", prompt=prompt)
    async with attached(theirs.address, workspace) as first, attached(theirs.address, workspace) as second:
        ran = Ran(job)
        ran.task = asyncio.create_task(first.engine.execute(job, ran.emit))
        await ran.seen("progress")
        # A worker of the same job while it runs, and one when it has ended: both get its end.
        beside = second.begin(prompt, id=job.id)
        assert isinstance(await ran.outcome(), Executed)
        assert isinstance(await beside.outcome(), Executed)
        _, after = await second.run(prompt, id=job.id)
        assert isinstance(after, Executed)
        assert after.outputs.keys() == {"3"}
    assert count.read_text().count("\n") == 1


async def test_an_earlier_attempt_that_was_interrupted_is_run_anew(
    theirs: Theirs, workspace: Workspace, tmp_path: Path
) -> None:
    async with attached(theirs.address, workspace) as subject:
        ran = subject.begin(gated(tmp_path / "gate"))
        await ran.seen("progress")
        await subject.engine.interrupt(ran.job.id)
        assert isinstance(await ran.outcome(), Interrupted)
        (tmp_path / "gate").touch()
        again = subject.begin(ran.job.prompt, id=ran.job.id)
        outcome = await again.outcome()
        assert isinstance(outcome, Executed)
        assert {data["prompt_id"] for _, data in again.events} == {ran.job.id}
        assert {data["prompt_id"] for _, data in outcome.messages} == {ran.job.id}


async def test_others_prompts_run_first_and_their_events_are_not_ours(
    theirs: Theirs, workspace: Workspace
) -> None:
    async with attached(theirs.address, workspace) as subject, aiohttp.ClientSession() as session:
        other = str(uuid.uuid4())
        body = {"prompt": waiting(1.0, 10, sink="77"), "prompt_id": other}
        async with session.post(f"{theirs.address}/prompt", json=body) as response:
            assert response.status == 200
        ran, outcome = await subject.run(picture(0x010203))
        assert isinstance(outcome, Executed)
        assert await entry(session, theirs.address, other) is not None
        assert other not in repr(ran.sent)


async def test_a_prompt_that_still_waits_there_is_taken_back(theirs: Theirs, workspace: Workspace) -> None:
    async with attached(theirs.address, workspace) as subject, aiohttp.ClientSession() as session:
        other = str(uuid.uuid4())
        body = {"prompt": waiting(60, 600), "prompt_id": other}
        async with session.post(f"{theirs.address}/prompt", json=body) as response:
            assert response.status == 200
        ran = subject.begin(picture(0x030201))
        while ran.job.id not in await queued(theirs.address):
            await asyncio.sleep(0.02)
        await subject.engine.interrupt(ran.job.id)
        assert isinstance(await ran.outcome(), Interrupted)
        assert ran.job.id not in await queued(theirs.address)
        assert other in await queued(theirs.address)
        await session.post(f"{theirs.address}/interrupt", json={"prompt_id": other})
        assert isinstance((await subject.run(picture(0x030202)))[1], Executed)


async def test_one_that_does_not_stop_is_left_to_itself(theirs: Theirs, workspace: Workspace) -> None:
    async with attached(theirs.address, workspace) as subject:
        ran = subject.begin(waiting(60, 600))
        await ran.seen("progress")
        await subject.engine.kill()
        with pytest.raises(EngineDied, match="is left to itself while executing node 2"):
            await ran.outcome()
        assert subject.engine.running
        assert isinstance((await subject.run(picture(9)))[1], Executed)


async def test_files_in_a_folder_that_both_share_stay_as_they_are(theirs: Theirs, tmp_path: Path) -> None:
    shared = Workspace.at(tmp_path / "ours", output=theirs.folder / "output")
    async with attached(theirs.address, shared) as subject:
        (path,) = await subject.files(picture(0x778899, "shared"))
    assert path == theirs.folder / "output/shared_00001_.png"
    assert [each.name for each in path.parent.glob("shared*")] == [path.name]
