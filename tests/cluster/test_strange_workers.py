"""Workers that announce nonsense, share a name, or live in another year disturb nobody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from comfy_dist.messages import Announcement, Catalogue, Finished, Reply, Started, WorkerState, now_ms
from comfy_dist.transport.amqp import AmqpTransport
from tests.support.in_process import Cluster, in_process, prompt
from tests.support.talking import Frontend

HOURS = 3_600_000
SOUND: dict[str, Any] = {
    "id": "stranger-1",
    "name": "stranger",
    "host": "h",
    "pid": 1,
    "version": "1",
    "state": "idle",
    "engine": "graph",
}
DEVICE = {"name": "cuda:0", "type": "cuda", "vram_total": 1}
NONSENSE = [
    {"pid": -1},
    {"ram_total": -5, "ram_free": 2**70},
    {"devices": [DEVICE] * 10_000},
    {"devices": [DEVICE | {"vram_free": -1}]},
    {"id": "i" * 10_000},
    {"id": ""},
    {"name": "\x1b]0;mine\x07\x1b[2J"},
    {"name": "two\nlines"},
    {"state": "on fire"},
    {"jobs": [{"id": "j" * 10_000}]},
    {"catalogue": "c" * 10_000},
    {"tags": ["t"] * 5000},
    {"started_at": -1},
]


@pytest.fixture
async def other(amqp_uri: str, queue_name: str) -> AsyncIterator[AmqpTransport]:
    """A participant that is none of ours."""
    transport = AmqpTransport(amqp_uri, queue_name)
    await transport.open()
    yield transport
    await transport.close()


@pytest.fixture
async def cluster(amqp_uri: str, queue_name: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with in_process(tmp_path, lambda: AmqpTransport(amqp_uri, queue_name)) as cluster:
        yield cluster


async def names(frontend: Frontend) -> list[str]:
    return [worker["name"] for worker in (await frontend.get("/distributed/workers"))["workers"]]


async def works(frontend: Frontend) -> None:
    """Everything is answered, and a prompt runs."""
    for path in ("/system_stats", "/distributed/workers", "/object_info", "/models", "/queue", "/metrics"):
        assert (await frontend.ask("GET", path)).status == 200, path
    entry = await frontend.ended(await frontend.prompt(prompt("Quick")))
    assert entry["status"]["completed"]


async def test_nonsense_in_announcements_is_set_aside_and_counted(
    cluster: Cluster, amqp_uri: str, queue_name: str
) -> None:
    await cluster.worker("w")
    frontend, _ = await cluster.frontend("f")
    await frontend.wait(lambda nodes: "Quick" in nodes, "/object_info")
    connection = await aio_pika.connect(amqp_uri)
    async with connection:
        presence = await (await connection.channel()).get_exchange(f"{queue_name}.presence")

        async def announce(fields: dict[str, Any]) -> None:
            await presence.publish(aio_pika.Message(json.dumps(fields).encode()), "")

        for each in NONSENSE:
            await announce(SOUND | each)
        # Printable, and so shown: as JSON, which no page takes for its own text.
        await announce(SOUND | {"name": "<script>alert(1)</script>"})

        def shown(found: Any) -> bool:
            return [worker["name"] for worker in found["workers"]] == ["<script>alert(1)</script>", "w"]

        await frontend.wait(shown, "/distributed/workers")
        health = await frontend.get("/health")
        assert health["unreadable"] == {f"{queue_name}.presence": len(NONSENSE)}
        # Another's id: the next word of its owner sets it right.
        mine = (await frontend.get("/distributed/workers"))["workers"][1]
        await announce(SOUND | {"id": mine["id"], "name": "taken", "state": "gone"})
        await announce(SOUND | {"state": "gone"})
        await frontend.wait(
            lambda found: [worker["name"] for worker in found["workers"]] == ["w"], "/distributed/workers"
        )
    await works(frontend)


async def _announce(worker: AmqpTransport, announcement: Announcement) -> None:
    """Until cancelled: who was not heard of for a while is gone, and so is its catalogue."""
    while True:
        await worker.announce(announcement)
        await asyncio.sleep(1)


@pytest.mark.parametrize(
    "nodes",
    [
        {"Quick": {"input": 5, "output": "x", "input_order": None}},
        {"Quick": {"input": {"required": {"text": []}}}},
        {f"Class{number}": {"input": {"required": {}}} for number in range(30_000)},
    ],
    ids=["no definition", "an input of no type", "30,000 classes"],
)
async def test_a_catalogue_of_nonsense_goes_with_its_worker(
    cluster: Cluster, other: AmqpTransport, nodes: dict[str, Any]
) -> None:
    await cluster.worker("w")
    frontend, _ = await cluster.frontend("f")
    await frontend.wait(lambda found: "Quick" in found, "/object_info")
    await other.enlist("liar")
    liar = Announcement.model_validate(SOUND | {"id": "liar", "name": "liar", "catalogue": "lies", "kind": "lies"})
    async with other.commands() as commands:
        announcing = asyncio.create_task(_announce(other, liar))
        async for received in commands:
            if received.command.verb == "catalogue":
                lies = Catalogue(hash="lies", kind="lies", nodes=nodes, engine_version="99")
                result = lies.model_dump(mode="json")
                await received.reply(Reply(command=received.command.id, worker="liar", result=result))
                break
    some_class = next(iter(nodes))
    await frontend.wait(lambda found: found.get(some_class) == nodes[some_class], "/object_info")
    # Whatever is said of it, it is said.
    answer = await frontend.ask("POST", "/prompt", json={"prompt": prompt("Quick")})
    assert answer.status in (200, 400, 500)
    assert answer.status == 200 or answer.json()["error"]["message"]
    announcing.cancel()
    await asyncio.gather(announcing, return_exceptions=True)
    await other.announce(liar.model_copy(update={"state": WorkerState.GONE}))
    truth = {"Quick", "Wait", "Die"}
    await frontend.wait(
        lambda found: found.keys() == truth and found["Quick"] != nodes.get("Quick"), "/object_info"
    )
    await works(frontend)


async def test_a_prompt_waits_until_it_is_known_what_the_first_worker_can_run(
    cluster: Cluster, other: AmqpTransport
) -> None:
    frontend, _ = await cluster.frontend("f")
    body = {"prompt": {"1": {"class_type": "Show", "inputs": {}}}}
    assert (await frontend.ask("POST", "/prompt", json=body)).error["type"] == "no_workers"
    await other.enlist("first")
    first = Announcement.model_validate(SOUND | {"id": "first", "name": "first", "catalogue": "c", "kind": "c"})
    async with other.commands() as commands:
        await other.announce(first)
        async for received in commands:
            if received.command.verb == "catalogue":
                asking = asyncio.create_task(frontend.ask("POST", "/prompt", json=body))
                await frontend.get("/object_info")
                nodes = {"Show": {"input": {"required": {}}, "output": [], "output_node": True}}
                can = Catalogue(hash="c", kind="c", nodes=nodes).model_dump(mode="json")
                await received.reply(Reply(command=received.command.id, worker="first", result=can))
                break
    assert (await asking).status == 200


async def test_two_workers_of_one_name_are_both_there_and_both_work(cluster: Cluster) -> None:
    await cluster.worker("twin")
    await cluster.worker("twin")
    frontend, _ = await cluster.frontend("f")
    await frontend.wait(lambda found: len(found["workers"]) == 2, "/distributed/workers")
    assert await names(frontend) == ["twin", "twin"]
    await frontend.wait(lambda found: "Wait" in found, "/object_info")
    both = [await frontend.prompt(prompt("Wait")) for _ in range(2)]
    for id_ in both:
        await frontend.running(id_)
    workers = (await frontend.get("/distributed/workers"))["workers"]
    assert len({worker["id"] for worker in workers}) == 2
    await frontend.post("/interrupt")
    await frontend.idle()


@pytest.mark.parametrize("skew", [-5 * HOURS, 5 * HOURS], ids=["hours behind", "hours ahead"])
async def test_the_end_told_by_a_clock_that_is_wrong_is_news_all_the_same(
    cluster: Cluster, other: AmqpTransport, skew: int
) -> None:
    frontend, _ = await cluster.frontend("f")
    await cluster.worker("w")
    await frontend.wait(lambda found: "Quick" in found, "/object_info")
    await frontend.post("/distributed/pause")
    async with frontend.socket("me") as socket:
        skewed = await frontend.prompt(prompt("Quick"), client_id="me")
        at = now_ms() + skew
        await other.append_event(Started(job_id=skewed, worker="far", attempt=1, at=at, client_id="me"))
        await frontend.running(skewed)
        success = ("execution_success", {"prompt_id": skewed, "timestamp": at})
        await other.append_event(
            Finished(job_id=skewed, worker="far", at=at + 1, messages=(success,), client_id="me", last_sequence=0)
        )
        await socket.end(skewed)
        assert "execution_success" in socket.names(skewed)
    assert (await frontend.ended(skewed))["status"]["completed"]
    # The order of the history is the log's.
    await frontend.post("/distributed/resume")
    later = await frontend.prompt(prompt("Quick"))
    await frontend.ended(later)
    assert list(await frontend.get("/history")) == [skewed, later]
