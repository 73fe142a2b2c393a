"""A job that kills what executes it ends, names every attempt, takes no other with it, and can be tried anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from comfy_dist.claims import Verdict
from comfy_dist.transport import Transport
from comfy_dist.transport.amqp import AmqpTransport
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.worker.arbiter import Arbiter
from tests.support.in_process import Cluster, in_process, prompt
from tests.support.patience import PATIENCE
from tests.support.rabbitmq import Rabbit
from tests.support.talking import Frontend


@pytest.fixture
async def cluster(tmp_path: Path, join: Callable[[], Transport]) -> AsyncIterator[Cluster]:
    async with in_process(tmp_path, join) as cluster:
        yield cluster


async def up(comfy: Frontend, count: int) -> None:
    """Until so many workers are idle or busy, and their nodes known."""
    await comfy.wait(
        lambda found: len([w for w in found["workers"] if w["state"] in ("idle", "busy")]) == count,
        "/distributed/workers",
    )
    await comfy.wait(lambda nodes: "Quick" in nodes, "/object_info")


async def died(comfy: Frontend, id_: str) -> dict[str, Any]:
    """The data of the error that the prompt ended by."""
    name, data = (await comfy.ended(id_))["status"]["messages"][-1]
    assert name == "execution_error", data
    found: dict[str, Any] = data
    return found


async def dead(comfy: Frontend, count: int) -> list[dict[str, Any]]:
    """The dead letters, once there are so many: a job's end is told before its letter is written."""
    found: list[dict[str, Any]]
    (found,) = await comfy.wait(
        lambda answer: [answer["dead"]] if len(answer["dead"]) == count else [], "/distributed/dead"
    )
    return found


async def test_it_ends_as_failed_naming_all_attempts_and_takes_no_other_job_with_it(cluster: Cluster) -> None:
    """Neither those of the other workers nor that of the other engine of its own."""
    comfy, _ = await cluster.frontend("a")
    for name in ("v", "w"):
        await cluster.worker(name, engines=2)
    await up(comfy, 2)
    beside = []
    for _ in range(3):
        beside.append(await comfy.prompt(prompt("Wait")))
        # Begun in this order.
        await comfy.running(beside[-1])
    poison = await comfy.prompt(prompt("Die"), client_id="me")
    error = await died(comfy, poison)
    tried = [worker for worker, job in cluster.stage.executed if job == poison]
    assert len(tried) == 3
    message = error["exception_message"]
    assert message.startswith("The engine exited with code 9 at node 1 (Die). It was tried 3 times and given up: ")
    for worker in tried:
        assert f"{worker}-" in message
    assert message.count("exited with code 9 at node 1") == 4
    assert (error["node_id"], error["node_type"]) == ("1", "Die")
    assert (await comfy.queue())[0] == beside
    await comfy.post("/interrupt")
    for id_ in beside:
        assert (await comfy.ended(id_))["status"]["messages"][-1][0] == "execution_interrupted"
    assert [job for _, job in cluster.stage.executed if job in beside] == beside

    (letter,) = await dead(comfy, 1)
    assert (letter["id"], letter["kind"], letter["nodes"], letter["client_id"]) == (poison, "job", 1, "me")
    assert letter["reason"] == message
    assert letter["at"] > 0
    assert letter["queue"]


async def test_an_engine_that_dies_before_it_has_a_job_is_held_against_none(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    comfy, _ = await cluster.frontend("a")
    v = await cluster.worker("v", max_attempts=1)
    await up(comfy, 1)
    engine, claim = v.engines[0], Arbiter.claim

    async def claim_and_lose_the_engine(arbiter: Arbiter, *arguments: Any) -> Verdict:
        verdict = await claim(arbiter, *arguments)
        if engine.starts == 1:
            await engine.kill()
        return verdict

    monkeypatch.setattr(Arbiter, "claim", claim_and_lose_the_engine)
    id_ = await comfy.prompt(prompt("Wait"))
    await comfy.wait(lambda found: found["workers"][0]["jobs"] and engine.starts == 2, "/distributed/workers")
    await comfy.running(id_)
    await comfy.post("/interrupt", {"prompt_id": id_})
    assert (await comfy.ended(id_))["status"]["messages"][-1][0] == "execution_interrupted"
    assert await dead(comfy, 0) == []


async def test_what_is_retried_is_one_new_job_whoever_asks_and_how_often(cluster: Cluster) -> None:
    a, _ = await cluster.frontend("a")
    b, _ = await cluster.frontend("b")
    await cluster.worker("v", max_attempts=1)
    await up(a, 1)
    await up(b, 1)
    ids = [await a.prompt(prompt("Die"), extra_data={"mark": number}) for number in range(5)]
    letters = await dead(b, 5)
    # In the order in which they died, and looking changes nothing.
    assert [letter["id"] for letter in letters] == ids
    assert await asyncio.gather(dead(a, 5), dead(b, 5), dead(a, 5)) == [letters] * 3
    await a.post("/distributed/pause")
    await a.wait(lambda found: found["workers"][0]["paused"], "/distributed/workers")
    answers = await asyncio.gather(
        *(comfy.post("/distributed/dead", {"retry": ids[1:3]}) for comfy in (a, b, a, b))
    )
    retried = {old: new for answer in answers for old, new in answer["retried"].items()}
    assert sorted(retried) == sorted(ids[1:3])
    assert sum(len(answer["retried"]) for answer in answers) == 2
    assert [letter["id"] for letter in await dead(b, 3)] == [ids[0], ids[3], ids[4]]
    answer = await b.post("/distributed/dead", {"drop": [ids[0], "no such"]})
    assert (answer["dropped"], answer["unknown"]) == ([ids[0]], ["no such"])
    for comfy in (a, b):
        queue = await comfy.wait(lambda queue: queue if len(queue["queue_pending"]) == 2 else None, "/queue")
        assert sorted(item[1] for item in queue["queue_pending"]) == sorted(retried.values())
        assert sorted(item[3]["mark"] for item in queue["queue_pending"]) == [1, 2]
    # They are as poisonous as before.
    await a.post("/distributed/resume")
    for new in retried.values():
        await died(b, new)
    assert len(await dead(a, 4)) == 4
    answer = await a.post("/distributed/dead", {"drop": "all"})
    assert sorted(answer["dropped"]) == sorted([ids[3], ids[4], *retried.values()])
    await dead(b, 0)


async def test_what_cannot_be_retried_now_is_kept_with_a_sentence(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        full, _ = await cluster.frontend("a", max_queue_size=1)
        v = await cluster.worker("v", max_attempts=1)
        await up(full, 1)
        poison = await full.prompt(prompt("Die"))
        await died(full, poison)
        await dead(full, 1)
        busy = await full.prompt(prompt("Wait"))
        await full.running(busy)
        answer = await full.post("/distributed/dead", {"retry": "all"})
        assert "wait already" in answer["kept"][poison]
        assert [letter["id"] for letter in await dead(full, 1)] == [poison]
        assert v.worker.healthy


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"retry": []} | {"drop": []},
        {"retry": "some"},
        {"drop": [3]},
        {"burn": "all"},
        {"drop": ["x"] * 1001},
        [],
    ],
)
async def test_a_wish_that_makes_no_sense_is_refused(tmp_path: Path, body: Any) -> None:
    broker = MemoryBroker()
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        comfy, _ = await cluster.frontend("a")
        answer = await comfy.ask("POST", "/distributed/dead", json=body)
        assert answer.status == 400
        assert answer.error["message"].endswith(".")


async def test_what_cannot_be_read_is_shown_put_back_as_it_was_or_dropped(
    tmp_path: Path, amqp_uri: str, queue_name: str
) -> None:
    connection = await aio_pika.connect(amqp_uri)
    async with connection, in_process(tmp_path, lambda: AmqpTransport(amqp_uri, queue_name)) as cluster:
        comfy, _ = await cluster.frontend("a")
        channel = await connection.channel()
        # No worker is there yet that would take it for a job.
        for queue, body in (("jobs", b"{no job"), ("events", b"\x00\xff"), ("jobs.low", b"[]")):
            letter = aio_pika.Message(
                body, headers={"reason": "r", "queue": f"{queue_name}.{queue}"}, message_id=queue
            )
            await channel.default_exchange.publish(letter, f"{queue_name}.dead")
        # Of someone who knows nothing of us.
        await channel.default_exchange.publish(aio_pika.Message(b"hello"), f"{queue_name}.dead")
        letters = await dead(comfy, 4)
        assert {letter["kind"] for letter in letters} == {"unreadable"}
        assert [letter["excerpt"] for letter in letters] == ["{no job", "\x00\ufffd", "[]", "hello"]
        answer = await comfy.post("/distributed/dead", {"retry": "all"})
        assert sorted(answer["put_back"]) == ["jobs", "jobs.low"]
        # What it says it came from is no queue of jobs.
        assert "events" in answer["kept"]
        assert len(answer["kept"]) == 2
        back = await (await channel.get_queue(f"{queue_name}.jobs")).get(timeout=PATIENCE)
        assert back.body == b"{no job"
        assert "reason" not in back.headers
        await back.ack()
        assert len((await comfy.post("/distributed/dead", {"drop": "all"}))["dropped"]) == 2


async def test_many_letters_are_looked_at_in_order_and_without_loss(
    tmp_path: Path, amqp_uri: str, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfy_dist.transport.amqp.dead.MOST_LETTERS", 60)
    monkeypatch.setattr("comfy_dist.transport.amqp.dead.BATCH", 25)
    connection = await aio_pika.connect(amqp_uri)
    async with connection, in_process(tmp_path, lambda: AmqpTransport(amqp_uri, queue_name)) as cluster:
        comfy, _ = await cluster.frontend("a")
        other, _ = await cluster.frontend("b")
        channel = await connection.channel()
        for number in range(70):
            await channel.default_exchange.publish(
                aio_pika.Message(b"x" * 10_000, message_id=str(number)), f"{queue_name}.dead"
            )
        for each in (comfy, other) * 4:
            answer = await each.get("/distributed/dead")
            assert answer["more"]
            assert [letter["id"] for letter in answer["dead"]] == [str(number) for number in range(60)]
        await comfy.post("/distributed/dead", {"drop": [str(number) for number in range(5, 25)]})
        answer = await comfy.get("/distributed/dead")
        left = [*range(5), *range(25, 70)]
        assert [letter["id"] for letter in answer["dead"]] == [str(number) for number in left]
        assert not answer["more"]


async def test_letters_whose_queue_answers_late_are_found(rabbit: Rabbit, queue_name: str) -> None:
    """RabbitMQ itself says meanwhile that there are none."""
    transport = AmqpTransport(rabbit.uri, queue_name)
    await transport.open()
    try:
        connection = await aio_pika.connect(rabbit.uri)
        async with connection:
            channel = await connection.channel()
            letter = aio_pika.Message(b"hello", message_id="a")
            await channel.default_exchange.publish(letter, f"{queue_name}.dead")
        hang = f"""
            {{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue_name}.dead">>)),
            {{Name, _}} = amqqueue:get_pid(Queue),
            Here = self(),
            spawn(fun() ->
                erlang:suspend_process(whereis(Name)), Here ! hangs, timer:sleep(1500)
            end),
            receive hangs -> ok end."""
        await asyncio.to_thread(rabbit.ctl, "eval", hang)
        async with transport.dead_letters() as letters:
            assert [each.letter.id for each in letters.held] == ["a"]
    finally:
        await transport.close()
