"""comfyui-client run --each, --workers and --participation: who runs it, and with which seeds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from comfy_dist.client.operating import NoCluster
from comfy_dist.client.run import Order, Submission, run
from comfy_dist.client.server import Server
from comfy_dist.client.waiting import Status
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.client.conftest import Run, fetch, picture, write
from tests.support.in_process import in_process
from tests.support.patience import PATIENCE
from tests.support.talking import Frontend, node

NAMES = ["a", "b", "c"]


@pytest.fixture
async def frontend(tmp_path: Path) -> AsyncIterator[Frontend]:
    """Of three workers."""
    broker = MemoryBroker()
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        for name in NAMES:
            await cluster.worker(name)
        frontend, _ = await cluster.frontend("one")
        # What each can run is known.
        await frontend.wait(
            lambda found: [each["catalogue"] for each in found["workers"]] == ["h"] * len(NAMES),
            "/distributed/workers",
        )
        await frontend.wait(lambda nodes: "Quick" in nodes, "/object_info")
        yield frontend


def order(tmp_path: Path, class_type: str = "Quick", **more: Any) -> Order:
    file = write(tmp_path / "a.json", {"1": node(class_type, text="", seed=2**64 - 4)})
    return Order([file], show_bars=False, **more)


async def made(frontend: Frontend, what: Order) -> list[Submission]:
    async with Server(frontend.address) as server:
        return await run(server, what, quiet=True)


async def seed(frontend: Frontend, submission: Submission) -> int:
    entry = (await frontend.get(f"/history/{submission.prompt_id}"))[submission.prompt_id]
    found: int = entry["prompt"][2]["1"]["inputs"]["seed"]
    return found


async def test_each_worker_runs_it_once_each_time_and_no_seed_comes_twice(
    frontend: Frontend, tmp_path: Path
) -> None:
    submissions = await made(frontend, order(tmp_path, each=True, repeat=2))
    assert [each.worker for each in submissions] == NAMES * 2
    labels = [each.label.removeprefix(f"{tmp_path}/") for each in submissions]
    assert labels == [f"a.json #{n} on {name}" for n in (1, 2) for name in NAMES]
    assert all(each.succeeded for each in submissions)
    assert [(await seed(frontend, each)) % 2**64 for each in submissions] == [
        (2**64 - 4 + number) % 2**64 for number in range(6)
    ]
    assert len({each.prompt_id for each in submissions}) == 6


async def test_each_of_those_that_are_named(frontend: Frontend, tmp_path: Path) -> None:
    submissions = await made(frontend, order(tmp_path, each=True, distributed={"workers": ["c", "away", "a"]}))
    assert [each.worker for each in submissions] == ["c", "a"]
    assert {each["worker"] for each in (one.as_json() for one in submissions)} == {"a", "c"}


async def test_where_nobody_is_there_that_is_the_outcome(frontend: Frontend, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="None of the workers that are chosen is live"):
        await made(frontend, order(tmp_path, each=True, distributed={"workers": ["away"]}))


async def test_what_is_refused_is_told_once(frontend: Frontend, tmp_path: Path) -> None:
    file = write(tmp_path / "bad.json", {"1": {"class_type": "Quick", "inputs": {}}})
    (only,) = await made(frontend, Order([file], each=True, show_bars=False))
    assert only.outcome is not None
    assert (only.outcome.status, only.prompt_id) == (Status.FAILED, None)
    assert "Required input is missing: text" in only.outcome.reason
    assert await frontend.queue() == ([], [])


class Held(Server):
    """A server whose answer to a submission takes its time."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.accepted, self.free = asyncio.Event(), asyncio.Event()

    async def post(self, path: str, body: Any) -> Any:
        answer = await super().post(path, body)
        if path == "/distributed/queue":
            self.accepted.set()
            await self.free.wait()
        return answer


@pytest.mark.parametrize("answered", [True, False])
async def test_who_leaves_cancels_it_on_all(frontend: Frontend, tmp_path: Path, answered: bool) -> None:
    async with Held(frontend.address) as server:
        running = asyncio.create_task(run(server, order(tmp_path, "Wait", each=True), quiet=True))
        await asyncio.wait_for(server.accepted.wait(), PATIENCE)
        await frontend.wait(lambda queue: len(queue["queue_running"]) == len(NAMES), "/queue")
        if answered:
            server.free.set()
            # It waits for the ends now: whoever has asked for the queue once has been answered long before.
            await frontend.wait(lambda found: found is not None, "/queue")
        running.cancel()
        await asyncio.sleep(0)
        server.free.set()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, PATIENCE)
    await frontend.idle()
    entries = await frontend.get("/history")
    assert len(entries) == len(NAMES)
    assert {entry["status"]["messages"][-1][0] for entry in entries.values()} == {"execution_interrupted"}


async def test_a_comfyui_that_knows_no_workers_is_told_apart_before_anything_is_submitted(tmp_path: Path) -> None:
    async def object_info(request: web.Request) -> web.Response:
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/object_info", object_info)
    async with TestServer(app) as stock:
        for what in (order(tmp_path, each=True), order(tmp_path, distributed={"workers": ["a"]})):
            async with Server(str(stock.make_url("")).rstrip("/")) as server:
                with pytest.raises(NoCluster, match="is a ComfyUI without workers"):
                    await run(server, what, quiet=True)


def test_the_flags_say_it(server: str, client: Run, tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", picture(31))
    said = client("run", file, "--workers", "near,far", "--participation", "fallback", "--json")
    assert said.returncode == 0, said.stderr
    (one,) = json.loads(said.stdout)
    extra = fetch(f"{server}/history/{one['prompt_id']}")[one["prompt_id"]]["prompt"][3]
    assert extra["distributed"] == {"workers": ["near", "far"], "participation": "fallback"}
    assert one["worker"] is None
    said = client("run", file, "--each")
    assert said.returncode == 0, said.stderr
    (worker,) = fetch(f"{server}/distributed/workers")["workers"]
    assert f"a.json on {worker['name']}: succeeded" in said.stdout


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--each", "--participation", "fallback"), "--participation means nothing beside it"),
        (("--participation", "never"), "participating"),
    ],
)
def test_flags_that_cannot_be_are_bad_usage(
    client: Run, tmp_path: Path, flags: tuple[str, ...], says: str
) -> None:
    said = client("run", write(tmp_path / "a.json", picture(32)), *flags)
    assert said.returncode == 2
    assert says in said.stderr
