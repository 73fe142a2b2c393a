"""Who has sent calls is not sent them: a taker that rests leaves calls to others until it takes again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from typing import Protocol

import aio_pika
import pytest

from comfy_dist.messages import Job, Urgency
from comfy_dist.transport import Delivery, Taker
from comfy_dist.transport.amqp import AmqpTransport, work
from comfy_dist.transport.amqp.names import Names
from tests.support.patience import PATIENCE
from tests.support.wire import Wire

#: A taker listens on for this long: for ever, or hardly.
LINGERING = pytest.mark.parametrize("linger", [10 * PATIENCE, 0.05], ids=["listening-on", "no-longer-listening"])


def job(id_: str, urgency: Urgency = Urgency.NORMAL) -> Job:
    return Job(id=id_, prompt={}, urgency=urgency)


async def taken(taker: Taker) -> Delivery:
    return await asyncio.wait_for(taker.take(), PATIENCE)


class Join(Protocol):
    def __call__(self, uri: str = ...) -> Awaitable[AmqpTransport]: ...


class Queues:
    """Who listens to what, as the broker has it."""

    def __init__(self, channel: aio_pika.abc.AbstractChannel, name: str) -> None:
        self._channel = channel
        self._names = Names(name)

    async def until_heard(self, **listeners: int) -> None:
        """Until so many consume from the queues of these urgencies; of a queue that somebody has a message of, a
        consumer is counted until that is settled."""
        wanted = {Urgency(urgency): count for urgency, count in listeners.items()}
        async with asyncio.timeout(PATIENCE):
            while {urgency: await self._listeners(urgency) for urgency in wanted} != wanted:
                await asyncio.sleep(0.02)

    async def _listeners(self, urgency: Urgency) -> int:
        queue = await self._channel.declare_queue(self._names.jobs(urgency), passive=True)
        return queue.declaration_result.consumer_count or 0


@pytest.fixture
async def queues(amqp_uri: str, queue_name: str) -> AsyncIterator[Queues]:
    connection = await aio_pika.connect(amqp_uri)
    async with connection:
        yield Queues(await connection.channel(), queue_name)


@pytest.fixture
async def joined(amqp_uri: str, queue_name: str) -> AsyncIterator[Join]:
    """Adds one more participant, over that way to the broker."""
    async with AsyncExitStack() as stack:

        async def join(uri: str = amqp_uri) -> AmqpTransport:
            transport = AmqpTransport(uri, queue_name)
            await transport.open()
            stack.push_async_callback(transport.close)
            return transport

        yield join


async def listened(taker: Taker, frontend: AmqpTransport, queues: Queues, id_: str) -> Delivery:
    """A job that came while the taker listened; nobody else does."""
    taking = asyncio.ensure_future(taken(taker))
    await queues.until_heard(call=1, low=1)
    await frontend.submit(job(id_))
    delivery = await taking
    assert (delivery.job.id, delivery.before) == (id_, 0)
    return delivery


@LINGERING
async def test_calls_go_to_others_at_once_while_a_taker_rests(
    joined: Join, queues: Queues, monkeypatch: pytest.MonkeyPatch, linger: float
) -> None:
    monkeypatch.setattr(work, "LINGER_SECONDS", linger)
    frontend, one, another = await joined(), await joined(), await joined()
    taker, other = one.taker(), another.taker()
    held = await listened(taker, frontend, queues, "sends calls")
    taker.rest()
    taker.rest()
    await queues.until_heard(call=0, low=1 if linger > PATIENCE else 0)
    for number in range(3):
        await frontend.submit(job(f"call {number}", Urgency.CALL))
        call = await taken(other)
        assert (call.job.id, call.before) == (f"call {number}", 0)
        await call.acknowledge()
    await held.acknowledge()


@LINGERING
@pytest.mark.parametrize("first", [Urgency.NORMAL, Urgency.CALL])
async def test_a_taker_that_has_rested_takes_everything_again(
    joined: Join, queues: Queues, monkeypatch: pytest.MonkeyPatch, linger: float, first: Urgency
) -> None:
    monkeypatch.setattr(work, "LINGER_SECONDS", linger)
    frontend, one = await joined(), await joined()
    taker = one.taker()
    held = await listened(taker, frontend, queues, "sends calls")
    taker.rest()
    await queues.until_heard(call=0, low=1 if linger > PATIENCE else 0)
    await held.acknowledge()
    taking = asyncio.ensure_future(taken(taker))
    await queues.until_heard(call=1, low=1)
    await frontend.submit(job("next", first))
    delivery = await taking
    assert (delivery.job.id, delivery.before) == ("next", 0)
    await delivery.acknowledge()
    for urgency in (Urgency.CALL, Urgency.NORMAL):
        await frontend.submit(job(urgency.value, urgency))
        delivery = await taken(taker)
        assert delivery.job.id == urgency.value
        await delivery.acknowledge()


@LINGERING
async def test_what_came_while_a_taker_rested_it_takes_next_calls_first(
    joined: Join, queues: Queues, monkeypatch: pytest.MonkeyPatch, linger: float
) -> None:
    monkeypatch.setattr(work, "LINGER_SECONDS", linger)
    frontend, one = await joined(), await joined()
    taker = one.taker()
    held = await listened(taker, frontend, queues, "sends calls")
    taker.rest()
    await queues.until_heard(call=0)
    await frontend.submit(job("call", Urgency.CALL))
    # Where it goes on listening it gives this back, and listens to nothing any more.
    await frontend.submit(job("next", Urgency.HIGH))
    await queues.until_heard(call=0, low=0)
    await held.acknowledge()
    for id_ in ("call", "next"):
        delivery = await taken(taker)
        assert delivery.job.id == id_
        await delivery.acknowledge()


async def test_a_taker_that_has_taken_nothing_may_rest(joined: Join, queues: Queues) -> None:
    frontend, one = await joined(), await joined()
    taker = one.taker()
    taker.rest()
    taking = asyncio.ensure_future(taken(taker))
    await queues.until_heard(call=1, low=1)
    # It waits for whatever comes.
    taker.rest()
    await frontend.submit(job("call", Urgency.CALL))
    assert (await taking).job.id == "call"


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
async def test_a_taker_may_rest_about_when_its_channel_is_lost(
    joined: Join, queues: Queues, amqp_uri: str, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    monkeypatch.setattr(work, "LINGER_SECONDS", 10 * PATIENCE)
    async with Wire(amqp_uri) as wire:
        frontend, one = await joined(), await joined(wire.uri)
        taker = one.taker()
        await listened(taker, frontend, queues, "a")
        if before:
            taker.rest()
        wire.cut()
        async with asyncio.timeout(PATIENCE):
            while one.connected:
                await asyncio.sleep(0.02)
        taker.rest()
        wire.mend()
        # What it held comes again.
        again = await taken(taker)
        assert again.job.id == "a"
        await again.acknowledge()
        for urgency in (Urgency.CALL, Urgency.NORMAL):
            await frontend.submit(job(urgency.value, urgency))
            delivery = await taken(taker)
            assert delivery.job.id == urgency.value
            await delivery.acknowledge()
        await one.close()
