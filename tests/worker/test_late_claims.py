"""Calls that begin before they are claimed: only what their session was given counts."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from comfy_dist.claims import Free, HeldBy, Verdict, Void
from comfy_dist.messages import CancelledFact, EndedFact, Fact, Job, JoinedFact, StartedFact
from comfy_dist.transport import Transport
from comfy_dist.transport.amqp import AmqpTransport
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.worker import late_claim, lookout
from comfy_dist.worker.late_claim import LateClaim
from tests.support.in_process import Cluster, in_process
from tests.support.patience import PATIENCE
from tests.worker.test_calls import call, node_of, prompt, running, until

Join = Callable[[], Transport]
SESSION = {"id": "s", "address": "", "via": "w/0", "token": "t"}


@pytest.fixture(params=["memory", "amqp"])
def join(request: pytest.FixtureRequest, queue_name: str) -> Join:
    if request.param == "memory":
        broker = MemoryBroker(park_seconds=0.1)
        return lambda: MemoryTransport(broker)
    uri = request.getfixturevalue("amqp_uri")
    return lambda: AmqpTransport(uri, queue_name)


@pytest.fixture
async def cluster(tmp_path: Path, join: Join) -> AsyncIterator[Cluster]:
    async with in_process(tmp_path, join) as cluster:
        yield cluster


@pytest.fixture
async def client(join: Join) -> AsyncIterator[Transport]:
    transport = join()
    await transport.open()
    yield transport
    await transport.close()


def helper(class_type: str) -> dict[str, Any]:
    return call(class_type, session=SESSION, helper=True)


async def facts_of(client: Transport, job: str) -> list[Fact]:
    """All that were told of it up to now."""
    reader, told = uuid.uuid4().hex, []
    await client.append_fact(JoinedFact(reader=reader))
    async with asyncio.timeout(PATIENCE), aclosing(client.facts()) as facts:  # type: ignore[type-var]
        async for fact in facts:
            if isinstance(fact, JoinedFact) and fact.reader == reader:
                break
            if getattr(fact, "job", None) == job or job in getattr(fact, "ended", ()):
                told.append(fact)
    return told


async def goes_on(cluster: Cluster, client: Transport, worker: str) -> None:
    """That worker executes what comes next."""
    await client.submit(Job(id="next", prompt=prompt("Quick"), outputs_to_execute=("1",)))
    await until(lambda: (worker, "next") in cluster.stage.executed)


async def test_of_one_that_is_done_at_once_no_fact_is_told(
    cluster: Cluster, client: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_claim, "CLAIM_SECONDS", PATIENCE)
    here = await running(cluster, client, "here")
    await cluster.worker("there")
    async with node_of(here) as node:
        (id_,) = (await node.link.ask("send", calls=[helper("Quick")]))["ids"]
        ended = await node.until(lambda message: message.get("state") == "ended")
        assert (ended["call"], ended["status"]) == (id_, "finished")
        await goes_on(cluster, client, "there")
        assert not await facts_of(client, id_)
        # Whoever cancels what he takes for waiting is told, as everybody would remember that for ever.
        await client.append_fact(CancelledFact(job=id_, by="its region is done"))
        async with asyncio.timeout(PATIENCE):
            while EndedFact(job=id_) not in await facts_of(client, id_):
                await asyncio.sleep(0.05)


async def test_one_that_lasts_is_claimed(
    cluster: Cluster, client: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_claim, "CLAIM_SECONDS", 0.05)
    here = await running(cluster, client, "here")
    await cluster.worker("there")
    async with node_of(here) as node:
        (id_,) = (await node.link.ask("send", calls=[helper("Wait")]))["ids"]
        started = await node.until(lambda message: message.get("state") == "started")
        assert (started["call"], started["worker"]) == (id_, "there")
        await client.append_fact(CancelledFact(job=id_, by="c"))
        ended = await node.until(lambda message: message.get("state") == "ended")
        assert (ended["status"], ended["attempt"]) == ("cancelled", started["attempt"])
    assert ("there", id_) in cluster.stage.executed
    assert executions(cluster, id_) == 1


async def test_who_is_late_with_it_gives_it_up(
    cluster: Cluster, client: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was delivered to another too, which has claimed it."""
    monkeypatch.setattr(late_claim, "CLAIM_SECONDS", PATIENCE)
    here = await running(cluster, client, "here")
    there = await cluster.worker("there")
    await client.enlist("other")
    async with node_of(here) as node:
        (id_,) = (await node.link.ask("send", calls=[helper("Wait")]))["ids"]
        await until(lambda: ("there", id_) in cluster.stage.executed)
        await client.append_fact(StartedFact(job=id_, worker="other", attempt=7))
        # Then it is to tell something of it, and claims it before.
        await there.engines[0].kill()
        await goes_on(cluster, client, "there")
        await client.append_fact(EndedFact(job=id_))
        assert not [each for each in node.pushed if each.get("state") == "ended"]
    assert executions(cluster, id_) == 1


async def test_an_engine_that_dies_of_it_counts(cluster: Cluster, client: Transport) -> None:
    here = await running(cluster, client, "here")
    await cluster.worker("there")
    async with node_of(here) as node:
        (id_,) = (await node.link.ask("send", calls=[helper("Die")]))["ids"]
        ended = await node.until(lambda message: message.get("state") == "ended")
        assert (ended["call"], ended["status"]) == (id_, "failed")
        assert "3 times" in ended["error"]["exception_message"]
        # It is told after all that was told of it, whatever numbers were left out.
        assert ended["attempt"] > max(each["attempt"] for each in node.pushed if each.get("state") == "gone")
    assert executions(cluster, id_) == 3


async def test_one_that_somebody_may_have_begun_is_another_attempt(
    amqp_uri: str, queue_name: str, tmp_path: Path
) -> None:
    """Whoever had it and is gone, or cut off, need not have told."""
    async with in_process(tmp_path, lambda: AmqpTransport(amqp_uri, queue_name)) as cluster:
        client, lost = AmqpTransport(amqp_uri, queue_name), AmqpTransport(amqp_uri, queue_name)
        await client.open()
        await lost.open()
        here = await running(cluster, client, "here")
        async with node_of(here) as node:
            (id_,) = (await node.link.ask("send", calls=[helper("Quick")]))["ids"]
            assert (await asyncio.wait_for(lost.taker().take(), PATIENCE)).job.id == id_
            await lost.close()
            await cluster.worker("there")
            ended = await node.until(lambda message: message.get("state") == "ended")
            assert (ended["call"], ended["status"], ended["attempt"]) == (id_, "finished", 2)
        claimed = [fact for fact in await facts_of(client, id_) if isinstance(fact, StartedFact)]
        assert [fact.attempt for fact in claimed] == [2]
        await client.close()


async def test_whoever_a_session_was_asked_by_is_looked_for(
    cluster: Cluster, client: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookout, "LOOK_SECONDS", 0.05)
    here = await running(cluster, client, "here")
    async with node_of(here) as node:
        (id_,) = (await node.link.ask("send", calls=[helper("Quick")]))["ids"]
        await node.link.ask("came", call=id_, attempt=1, worker="nobody")
        gone = await node.until(lambda message: message.get("state") == "gone")
        assert (gone["call"], gone["attempt"], gone["worker"]) == (id_, 1, "nobody")
        # Of what was never sent nothing is known.
        await node.link.ask("came", call="another", attempt=1, worker="nobody")


def executions(cluster: Cluster, job: str) -> int:
    return sum(each == job for _, each in cluster.stage.executed)


@pytest.mark.parametrize("verdict", [HeldBy("other"), Void(), Free(3)])
async def test_it_is_called_off_when_its_time_comes_and_it_is_anothers(
    verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_claim, "CLAIM_SECONDS", 0.0)
    called_off = asyncio.Event()

    async def claim() -> Verdict:
        return verdict

    with LateClaim(claim, called_off.set) as late:
        await asyncio.wait_for(called_off.wait(), PATIENCE)
        assert not late.drop()
        assert await late.verdict() == verdict
