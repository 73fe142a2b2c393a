"""What an operator types: pause, resume, drain, workers and dead."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.client.conftest import client_command
from tests.support.in_process import Cluster, in_process, prompt
from tests.support.processes import finished
from tests.support.talking import Frontend

Type = Callable[..., Awaitable[subprocess.CompletedProcess[str]]]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    broker = MemoryBroker()
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        yield cluster


@pytest.fixture
async def comfy(cluster: Cluster) -> Frontend:
    comfy, _ = await cluster.frontend("a")
    await cluster.worker("v", max_attempts=1)
    await comfy.wait(lambda found: [w["state"] for w in found["workers"]] == ["idle"], "/distributed/workers")
    await comfy.wait(lambda nodes: "Quick" in nodes, "/object_info")
    return comfy


@pytest.fixture
def type_(comfy: Frontend, tmp_path: Path) -> Type:
    """Runs comfyui-client with these arguments."""

    async def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = await asyncio.to_thread(finished, client_command(comfy.address, *arguments), cwd=tmp_path)
        assert "Traceback" not in done.stderr
        return done

    return run


async def test_pausing_draining_and_what_workers_shows(cluster: Cluster, comfy: Frontend, type_: Type) -> None:
    done = await type_("pause")
    assert (done.returncode, done.stdout.split(":")[0]) == (0, "The cluster is paused")
    await comfy.wait(lambda found: found["workers"][0]["paused"], "/distributed/workers")
    assert "idle, paused" in (await type_("workers")).stdout
    waiting = await comfy.prompt(prompt("Quick"))
    done = await type_("resume", "--json")
    assert len(json.loads(done.stdout)["resumed"]) == 1
    await comfy.ended(waiting)
    unknown = await type_("pause", "nobody")
    assert unknown.returncode == 1
    assert "No live worker has the id or name 'nobody'" in unknown.stderr
    busy = await comfy.prompt(prompt("Wait"))
    # What is interrupted stands in the queue; what a worker has in hand is its own announcement.
    await comfy.running(busy)
    await comfy.wait(
        lambda found: [job["id"] for job in found["workers"][0]["jobs"]] == [busy], "/distributed/workers"
    )
    assert (await type_("drain", "v")).stdout == f"v leaves when it has finished {busy}.\n"
    await comfy.post("/interrupt")
    await comfy.wait(lambda found: not found["workers"], "/distributed/workers")
    assert [job for _, job in cluster.stage.executed] == [waiting, busy]


async def test_dead_letters(cluster: Cluster, comfy: Frontend, type_: Type) -> None:
    ids = [await comfy.prompt(prompt("Die")) for _ in range(3)]
    await comfy.wait(lambda found: len(found["dead"]) == 3, "/distributed/dead")
    shown = (await type_("dead", "list")).stdout
    for id_ in ids:
        assert id_ in shown
    assert "exited with code 9" in shown
    wrong = (("retry",), ("drop",), ("retry", ids[0], "--all"))
    for refused in await asyncio.gather(*(type_("dead", *each) for each in wrong)):
        assert refused.returncode == 2
        assert "--all" in refused.stderr
    await comfy.post("/distributed/pause")
    await comfy.wait(lambda found: found["workers"][0]["paused"], "/distributed/workers")
    done = await type_("dead", "retry", ids[0])
    _, (new,) = await comfy.queue()
    assert (done.returncode, done.stdout) == (0, f"{ids[0]}: submitted again as {new}\n")
    done = await type_("dead", "drop", ids[0], ids[1])
    assert (done.returncode, done.stdout) == (1, f"{ids[1]}: dropped\n{ids[0]}: is no dead letter\n")
    done = await type_("dead", "drop", "--all", "--json")
    assert json.loads(done.stdout)["dropped"] == [ids[2]]
