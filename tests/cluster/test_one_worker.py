"""What an operator does with one worker, through any frontend."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import comfy_dist.frontend.cluster
from comfy_dist.masking import without_secrets
from comfy_dist.messages import Announcement, WorkerState
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import Cluster, Running, in_process, prompt
from tests.support.patience import PATIENCE
from tests.support.talking import Frontend


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
async def cluster(tmp_path: Path, broker: MemoryBroker) -> AsyncIterator[Cluster]:
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        yield cluster


@pytest.fixture
async def comfy(cluster: Cluster) -> Frontend:
    return (await cluster.frontend("a"))[0]


@pytest.fixture
async def v(cluster: Cluster, comfy: Frontend) -> Running:
    """A worker with two engines, up."""
    v = await cluster.worker("v", engines=2)
    await until(comfy, v=["idle"])
    await comfy.wait(lambda nodes: "Quick" in nodes, "/object_info")
    return v


async def until(comfy: Frontend, **states: list[str]) -> None:
    """Until there are just these workers, in these states."""

    def so(answer: dict[str, Any]) -> bool:
        found: dict[str, list[str]] = {}
        for each in answer["workers"]:
            found.setdefault(each["name"], []).append(each["state"])
        return found == states

    await comfy.wait(so, "/distributed/workers")


async def busy(comfy: Frontend, count: int = 1) -> list[str]:
    ids = [await comfy.prompt(prompt("Wait")) for _ in range(count)]
    for id_ in ids:
        await comfy.running(id_)
    await comfy.wait(
        lambda found: set(ids) <= {job["id"] for worker in found["workers"] for job in worker["jobs"]},
        "/distributed/workers",
    )
    return ids


async def test_a_drained_worker_finishes_its_jobs_takes_no_more_and_leaves(
    cluster: Cluster, comfy: Frontend, v: Running
) -> None:
    running = await busy(comfy, 2)
    answer = await comfy.post("/distributed/workers/v", {"drain": True})
    assert (answer["worker"], answer["name"]) == (v.worker.id, "v")
    assert sorted(answer["drain"]["jobs"]) == sorted(running)
    # Asked again it does not hurry, as it does when it is signalled again.
    await comfy.post(f"/distributed/workers/{v.worker.id}", {"drain": True})
    waiting = await comfy.prompt(prompt("Quick"))
    await until(comfy, v=["draining"])
    await comfy.post("/interrupt", {"prompt_id": running[0]})
    await comfy.ended(running[0])
    assert (await comfy.queue()) == ([running[1]], [waiting])
    await comfy.post("/interrupt", {"prompt_id": running[1]})
    await asyncio.wait_for(v.serving, PATIENCE)
    await until(comfy)
    await cluster.worker("w")
    await comfy.ended(waiting)
    assert cluster.stage.executed[-1] == ("w", waiting)


async def test_told_twice_it_gives_its_jobs_back(cluster: Cluster, comfy: Frontend, v: Running) -> None:
    running = await busy(comfy, 2)
    v.worker.drain()
    await until(comfy, v=["draining"])
    v.worker.drain()
    await asyncio.wait_for(v.serving, PATIENCE)
    await comfy.wait(
        lambda queue: not queue["queue_running"] and {item[1] for item in queue["queue_pending"]} == set(running),
        "/queue",
    )
    # Held against nobody: one attempt is all they have.
    w = await cluster.worker("w", engines=2, max_attempts=1)
    for id_ in running:
        await comfy.running(id_)
        await comfy.post("/interrupt", {"prompt_id": id_})
        assert (await comfy.ended(id_))["status"]["messages"][-1][0] == "execution_interrupted"
    assert sorted(cluster.stage.executed) == sorted((name, id_) for name in "vw" for id_ in running)
    assert not any(engine.running for engine in v.engines)
    assert w.worker.healthy


async def test_an_idle_worker_answers_before_it_leaves(comfy: Frontend, v: Running) -> None:
    assert (await comfy.post("/distributed/workers/v", {"drain": True}))["drain"] == {"jobs": []}
    await asyncio.wait_for(v.serving, PATIENCE)


async def test_interrupting_one_worker_leaves_the_others_alone(
    cluster: Cluster, comfy: Frontend, v: Running
) -> None:
    on_v = await busy(comfy, 2)
    await cluster.worker("w")
    (on_w,) = await busy(comfy)
    answer = await comfy.post("/distributed/workers/v", {"interrupt": True})
    assert sorted(answer["interrupt"]["jobs"]) == sorted(on_v)
    for id_ in on_v:
        assert (await comfy.ended(id_))["status"]["messages"][-1][0] == "execution_interrupted"
    assert (await comfy.queue())[0] == [on_w]


async def test_a_restarted_engine_gives_its_job_back_and_blames_nobody(
    cluster: Cluster, comfy: Frontend, v: Running
) -> None:
    """Once more than a job may be tried."""
    (id_,) = await busy(comfy)
    for restart in range(1, 5):
        answer = await comfy.post("/distributed/workers/v", {"restart_engine": True})
        assert answer["restart_engine"] == {"jobs": [id_]}
        async with asyncio.timeout(PATIENCE):
            # The engine that had no job, too.
            while [job for _, job in cluster.stage.executed].count(id_) <= restart or any(
                engine.starts <= restart for engine in v.engines
            ):
                await asyncio.sleep(0.01)
        await comfy.wait(
            lambda found: [job["id"] for job in found["workers"][0]["jobs"]] == [id_], "/distributed/workers"
        )
    assert all(engine.starts == 5 for engine in v.engines)
    await comfy.post("/interrupt", {"prompt_id": id_})
    assert (await comfy.ended(id_))["status"]["messages"][-1][0] == "execution_interrupted"


async def test_several_deeds_at_once_and_memory_freed(comfy: Frontend, v: Running) -> None:
    body = {"enabled": False, "free": {"unload_models": True}}
    answer = await comfy.post("/distributed/workers/v", body)
    assert answer == {"worker": v.worker.id, "name": "v", "enabled": False, "free": {}}
    async with asyncio.timeout(PATIENCE):
        while [engine.frees for engine in v.engines] != [1, 1]:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("workers/v", {}, 400, "may have enabled, free, interrupt, restart_engine, drain"),
        ("workers/v", {"explode": True}, 400, "may have"),
        ("workers/v", {"enabled": "yes"}, 400, "enabled must be true or false"),
        ("workers/v", {"enabled": None}, 400, "enabled must be true or false"),
        ("workers/v", {"drain": False}, 400, "cannot be taken back"),
        ("workers/v", {"free": "all"}, 400, "free must be"),
        ("workers/v", {"free": {"unload_models": {}}}, 400, "free must be"),
        ("workers/v", {"free": {"unload": True}}, 400, "free must be"),
        ("workers/x", {"drain": True}, 404, "No live worker has the id or name 'x'"),
        ("workers/" + "x" * 5000, {"drain": True}, 404, "No live worker"),
        ("pause", {"worker": "x"}, 404, "No live worker"),
        ("pause", {"worker": 3}, 400, "worker must be"),
        ("pause", {"worker": "x" * 10_000}, 400, "at most 100 characters"),
        ("pause", {"wroker": "v"}, 400, "may have worker"),
        ("pause", ["v"], 400, "must be a JSON object"),
        ("resume", {"worker": "\n"}, 400, "worker must be"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_a_sentence(
    comfy: Frontend, v: Running, path: str, body: Any, status: int, says: str
) -> None:
    answer = await comfy.ask("POST", f"/distributed/{path}", json=body)
    assert answer.status == status
    assert says in answer.error["message"]
    assert len(answer.error["message"]) < 300


async def test_a_worker_that_does_not_answer_is_said_to_be_silent(
    comfy: Frontend, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comfy_dist.frontend.cluster, "ANSWER_SECONDS", 0.2)
    silent = Announcement(id="s1", name="s", host="h", pid=1, version="0", state=WorkerState.IDLE, engine="graph")
    await MemoryTransport(broker).announce(silent)
    await until(comfy, s=["idle"])
    answer = await comfy.ask("POST", "/distributed/workers/s", json={"interrupt": True})
    assert answer.status == 504
    assert answer.error["type"] == "worker_silent"
    assert "Worker s did not answer" in answer.error["message"]


async def test_the_log_of_a_worker_is_read_through_a_frontend(comfy: Frontend, v: Running) -> None:
    log = logging.getLogger("comfy_dist.anywhere")
    for number in range(5):
        log.warning("line %d of amqp://guest:sesame@broker:5672/", number)
    answer = await comfy.get("/distributed/workers/v/log", params={"lines": "2"})
    assert (answer["worker"], answer["name"]) == (v.worker.id, "v")
    assert [line.partition("WARNING ")[2] for line in answer["lines"]] == [
        f"line {number} of amqp://guest:***@broker:5672/" for number in (3, 4)
    ]
    assert len((await comfy.get("/distributed/workers/v/log"))["lines"]) >= 5
    refused = await comfy.ask("GET", "/distributed/workers/v/log", params={"lines": "many"})
    assert refused.status == 400


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amqp://u:p%40ss@host/v and http://host:80/x", "amqp://u:***@host/v and http://host:80/x"),
        ("Authorization: Bearer abc.def-123", "Authorization: *** ***"),
        ("sent bearer abcdefgh", "sent bearer ***"),
        ('{"api_key": "k-123", "seed": 3}', '{"api_key": "***", "seed": 3}'),
        ("auth_token_comfy_org='xyz' password=hunter2", "auth_token_comfy_org='***' password=***"),
        ("nothing of the kind: 3 tokens", "nothing of the kind: 3 tokens"),
    ],
)
def test_secrets_are_left_out_of_logs(text: str, expected: str) -> None:
    assert without_secrets(text) == expected
