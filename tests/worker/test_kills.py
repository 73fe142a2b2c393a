"""Killed and started again: what was accepted runs, what has ended is kept, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.talking import frontend_at, node, quick, slow
from tests.worker.conftest import Start
from tests.worker.marks import counted, ended_well, gone, ran, until_ran


def ids(queue: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Of the running and of the pending prompts."""
    return {item[1] for item in queue["queue_running"]}, {item[1] for item in queue["queue_pending"]}


def begun_after(time: int, job: dict[str, Any]) -> int:
    """When the running job was begun, where that is later; else 0."""
    began: int = job["execution_start_time"] if job["status"] == "in_progress" else 0
    return began if began > time else 0


async def test_kills_lose_nothing_leave_nothing_and_what_kills_is_given_up(start: Start, workspace: Path) -> None:
    service, marks, gate = start(workspace), workspace / "marks", workspace / "gate"
    async with frontend_at(service.address) as comfy:
        before, deleted = await comfy.prompt(quick()), await comfy.prompt(quick())
        await ended_well(comfy, before, deleted)
        await comfy.post("/history", {"delete": [deleted]})
        await comfy.wait(lambda found: not found, f"/history/{deleted}")
        interrupted = await comfy.prompt(slow())
        await comfy.running(interrupted)
        await comfy.post("/interrupt")
        await comfy.ended(interrupted)
        running = await comfy.prompt(counted(marks, "running", gate), extra_data={"api_key_comfy_org": "k"})
        await until_ran(marks, "running")
        waiting = [await comfy.prompt(counted(marks, label)) for label in ("first", "second")]
        front = await comfy.prompt(counted(marks, "front"), front=True)
        cancelled = await comfy.prompt(counted(marks, "cancelled"))
        await comfy.wait(lambda queue: ids(queue) == ({running}, {*waiting, front, cancelled}), "/queue")
        await comfy.post("/queue", {"delete": [cancelled]})
        await comfy.wait(lambda queue: ids(queue) == ({running}, {*waiting, front}), "/queue")
    children = service.children
    assert children
    service.kill()
    # Its node looks up all the time.
    await gone(children)

    gate.touch()
    again = start(workspace, "--max-attempts", "2")
    async with frontend_at(again.address) as comfy:
        await ended_well(comfy, before, running, *waiting, front)
        history = await comfy.get("/history")
        assert list(history) == [before, interrupted, front, running, *waiting]
        assert history[interrupted]["status"]["messages"][-1][0] == "execution_interrupted"
        assert await comfy.queue() == ([], [])
        assert (await comfy.get(f"/jobs/{cancelled}"))["status"] == "cancelled"
        assert ran(marks) == ["running", "front", "running", "first", "second"]
        assert "Traceback" not in again.process.log
        assert "ERROR" not in again.process.log
        killing = counted(marks, "killing") | {
            "2": node("TestSleep", seconds=600, steps=1, value=["1", 0]),
        }
        given_up = await comfy.prompt(killing)
    began = 0
    for attempt, victim in ((1, again), (2, None)):
        victim = victim or start(workspace, "--max-attempts", "2")
        async with frontend_at(victim.address) as comfy:
            await until_ran(marks, "killing", attempt)
            # What this answer says is written. Of the attempt before it may say the same.
            began = await comfy.wait(lambda job, before=began: begun_after(before, job), f"/jobs/{given_up}")
        children = victim.children
        assert children
        victim.kill()
        # Its node would not look up for minutes.
        await gone(children)

    last = start(workspace, "--max-attempts", "2")
    async with frontend_at(last.address) as comfy:
        entry = await comfy.ended(given_up)
        assert entry["status"]["status_str"] == "error"
        assert "2 times" in entry["status"]["messages"][-1][1]["exception_message"]
        await ended_well(comfy, await comfy.prompt(quick()))
    assert ran(marks).count("killing") == 2
