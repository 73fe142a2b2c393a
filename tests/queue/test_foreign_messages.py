"""What strangers, other versions and madmen put on our queues, streams and exchanges stops nobody."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import aio_pika
import pamqp.encode
import pytest

from comfy_dist.messages import (
    Announcement,
    Command,
    EndedFact,
    Finished,
    Job,
    Progress,
    StartedFact,
    WorkerState,
    parse_event,
    parse_fact,
)
from comfy_dist.transport import Recorded
from comfy_dist.transport.amqp import AmqpTransport, outgoing
from tests.support.patience import PATIENCE

GARBAGE = {
    "no JSON": aio_pika.Message(b"\x00\xff\xfe garbage"),
    "nothing": aio_pika.Message(b""),
    "no object": aio_pika.Message(b"[1, 2, 3]"),
    "another application's": aio_pika.Message(
        b'{"task": "mail", "args": []}', content_type="application/x-celery"
    ),
    "an unknown version": aio_pika.Message(b'{"v": 2, "type": "submitted", "job_id": "a", "at": 1, "prompt": {}}'),
    "cut-off deflate": aio_pika.Message(zlib.compress(b"x" * 9999)[:20], content_encoding="deflate"),
    "deflate that is none": aio_pika.Message(b"{}", content_encoding="deflate"),
    "an encoding we do not speak": aio_pika.Message(b"\x28\xb5\x2f\xfd", content_encoding="zstd"),
    "an endless level": aio_pika.Message(b"[" * 100_000),
    "headers of all types": aio_pika.Message(
        b"?",
        headers={"x-death": 3, "worker": {"a": [None, True, bytearray(b"\xff")]}, "queue": 2**60, "reason": -1.5},
    ),
}


@pytest.fixture
async def stranger(amqp_uri: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    connection = await aio_pika.connect(amqp_uri)
    async with connection:
        yield await connection.channel()


def job(id_: str) -> Job:
    return Job(id=id_, prompt={"1": {"class_type": "EmptyImage", "inputs": {}}})


def bomb(fields: dict[str, Any]) -> aio_pika.Message:
    """Sixty kilobytes that inflate to 64 MiB, and would be sound."""
    return aio_pika.Message(zlib.compress(b" " * 2**26 + json.dumps(fields).encode()), content_encoding="deflate")


async def test_garbage_on_a_work_queue_is_set_aside_and_the_jobs_go_on(
    transport: AmqpTransport, queue_name: str, stranger: aio_pika.abc.AbstractChannel
) -> None:
    for message in GARBAGE.values():
        await stranger.default_exchange.publish(message, f"{queue_name}.jobs")
    await transport.submit(job("a"))
    delivery = await asyncio.wait_for(transport.taker().take(), PATIENCE)
    assert delivery.job.id == "a"
    await delivery.acknowledge()
    assert transport.unreadable.counts == {f"{queue_name}.jobs": len(GARBAGE)}
    dead = await stranger.get_queue(f"{queue_name}.dead")
    bodies = []
    for _ in GARBAGE:
        letter = await dead.get(timeout=PATIENCE)
        assert letter is not None
        assert letter.headers["reason"]
        assert letter.headers["queue"] == f"{queue_name}.jobs"
        bodies.append(letter.body)
    assert bodies == [message.body for message in GARBAGE.values()]


async def test_a_zip_bomb_is_set_aside_before_it_fills_the_memory(
    transport: AmqpTransport,
    queue_name: str,
    stranger: aio_pika.abc.AbstractChannel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outgoing, "LARGEST", 2**24)
    await stranger.default_exchange.publish(bomb({"id": "bomb", "prompt": {}}), f"{queue_name}.jobs")
    await stranger.default_exchange.publish(bomb(EVENT), f"{queue_name}.events")
    await transport.submit(job("a"))
    assert (await asyncio.wait_for(transport.taker().take(), PATIENCE)).job.id == "a"
    await transport.append_event(Finished(job_id="a"))
    async with asyncio.timeout(PATIENCE), aclosing(transport.events(None)) as events:
        first, second = await anext(events), await anext(events)
    assert isinstance(first, Recorded)
    assert isinstance(second, Recorded)
    assert first.event is None
    assert second.event is not None
    assert transport.unreadable.counts == {f"{queue_name}.jobs": 1, f"{queue_name}.events": 1}


async def test_properties_that_the_library_cannot_decode_end_nobodys_connection(
    transport: AmqpTransport,
    queue_name: str,
    stranger: aio_pika.abc.AbstractChannel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They would: the message is given back, and ends the next one's."""
    late = dt.datetime.now()
    with monkeypatch.context() as patch:
        # Our own library does not send such a date.
        patch.setitem(pamqp.encode.METHODS, "timestamp", lambda _: struct.pack(">Q", 2**63))
        await stranger.default_exchange.publish(aio_pika.Message(b"{}", timestamp=late), f"{queue_name}.jobs")
        await stranger.default_exchange.publish(aio_pika.Message(b"{}", timestamp=late), f"{queue_name}.events")
    await transport.submit(job("a"))
    assert (await asyncio.wait_for(transport.taker().take(), PATIENCE)).job.id == "a"
    await transport.append_event(Finished(job_id="a"))
    async with asyncio.timeout(PATIENCE), aclosing(transport.events(None)) as events:
        entries = [await anext(events), await anext(events)]
    assert [isinstance(entry, Recorded) and entry.event is not None for entry in entries] == [False, True]
    assert transport.unreadable.counts == {f"{queue_name}.jobs": 1, f"{queue_name}.events": 1}


async def test_garbage_in_the_streams_is_passed_over_and_counted(
    transport: AmqpTransport, queue_name: str, stranger: aio_pika.abc.AbstractChannel
) -> None:
    for message in GARBAGE.values():
        for stream in ("events", "control"):
            await stranger.default_exchange.publish(message, f"{queue_name}.{stream}")
    await transport.append_event(Finished(job_id="a"))
    await transport.append_fact(EndedFact(job="a"))
    async with asyncio.timeout(PATIENCE), aclosing(transport.events(None)) as events:
        entries = [await anext(events) for _ in range(len(GARBAGE) + 1)]
    assert [isinstance(entry, Recorded) and entry.event for entry in entries[:-1]] == [None] * len(GARBAGE)
    assert isinstance(entries[-1], Recorded)
    assert isinstance(entries[-1].event, Finished)
    async with asyncio.timeout(PATIENCE), aclosing(transport.facts()) as facts:
        assert await anext(facts) == EndedFact(job="a")
    assert transport.unreadable.counts == {f"{queue_name}.{each}": len(GARBAGE) for each in ("events", "control")}


async def test_garbage_in_the_exchanges_is_passed_over_and_counted(
    transport: AmqpTransport, queue_name: str, stranger: aio_pika.abc.AbstractChannel
) -> None:
    await transport.enlist("w1")
    kinds = ("progress", "presence", "commands")
    async with transport.progress() as one, transport.announcements() as two, transport.commands() as three:
        for kind in kinds:
            exchange = await stranger.get_exchange(f"{queue_name}.{kind}")
            for message in GARBAGE.values():
                await exchange.publish(message, "everyone")
        sound = Progress(job_id="a", client_id=None, sequence=1, attempt=1, event="e", body=b"{}")
        await transport.emit([sound])
        await transport.announce(announcement())
        await transport.send(Command(verb="announce"))
        waits = [anext(stream) for stream in (one, two, three)]
        progress, seen, command = await asyncio.wait_for(asyncio.gather(*waits), PATIENCE)
    assert (progress, seen, command.command.verb) == (sound, announcement(), "announce")
    counted = transport.unreadable.counts
    # An empty message holds no progress, and that is no error.
    assert [counted[f"{queue_name}.{kind}"] for kind in kinds] == [len(GARBAGE) - 1, len(GARBAGE), len(GARBAGE)]


async def test_two_clusters_on_one_broker_see_nothing_of_each_other(amqp_uri: str, queue_name: str) -> None:
    """Not even where the name of one begins with that of the other."""
    ones = AmqpTransport(amqp_uri, queue_name)
    others = AmqpTransport(amqp_uri, f"{queue_name}.jobs")
    for transport in (ones, others):
        await transport.open()
    try:
        async with others.announcements() as announcements, others.progress() as all_progress:
            taking = asyncio.ensure_future(others.taker().take())
            await ones.enlist("w1")
            await asyncio.sleep(0.3)
            await ones.submit(job("a"))
            await ones.append_event(Finished(job_id="a"))
            await ones.append_fact(EndedFact(job="a"))
            await ones.announce(announcement())
            await ones.emit([Progress(job_id="a", client_id=None, sequence=1, attempt=1, event="e", body=b"{}")])
            assert (await asyncio.wait_for(ones.taker().take(), PATIENCE)).job.id == "a"
            assert not await others.is_alive("w1")
            # Their own comes first in each.
            await others.submit(job("b"))
            await others.append_event(Finished(job_id="b"))
            await others.append_fact(EndedFact(job="b"))
            await others.announce(announcement("w2"))
            await others.emit([Progress(job_id="b", client_id=None, sequence=1, attempt=1, event="e", body=b"{}")])
            heard = anext(announcements), anext(all_progress), taking
            seen, progress, delivery = await asyncio.wait_for(asyncio.gather(*heard), PATIENCE)
        assert (seen.id, progress.job_id, delivery.job.id) == ("w2", "b", "b")
        async with asyncio.timeout(PATIENCE), aclosing(others.events(None)) as events:
            entry = await anext(events)
        assert isinstance(entry, Recorded)
        assert isinstance(entry.event, Finished)
        assert entry.event.job_id == "b"
        async with asyncio.timeout(PATIENCE), aclosing(others.facts()) as facts:
            assert await anext(facts) == EndedFact(job="b")
    finally:
        await ones.close()
        await others.close()


def announcement(id_: str = "w1") -> Announcement:
    return Announcement(id=id_, name=id_, host="h", pid=1, version="1", state=WorkerState.IDLE, engine="graph")


LONG = "i" * 10_000
FACT = {"type": "started", "job": "j", "worker": "w", "attempt": 1}
EVENT = {"v": 1, "type": "finished", "job_id": "j", "at": 1, "worker": "w"}


@pytest.mark.parametrize(
    "change",
    [
        *({"job": each} for each in (LONG, "", "a\nb")),
        *({"worker": each} for each in (LONG, "\x1b[2J")),
        *({"attempt": each} for each in (-1, 10**40, "first")),
        *({"ended": each} for each in ([LONG], "j")),
    ],
)
def test_a_fact_that_nobody_of_us_writes_is_none(change: dict[str, Any]) -> None:
    assert parse_fact(json.dumps(FACT).encode()) == StartedFact(job="j", worker="w", attempt=1)
    assert parse_fact(json.dumps(FACT | change).encode()) is None


@pytest.mark.parametrize(
    "change",
    [
        *({"job_id": each} for each in (LONG, "")),
        *({"at": each} for each in (0, -5, 10**40, None)),
        *({"worker": each} for each in (LONG, "\x00")),
        *({"attempt": -1}, {"last_sequence": 2**64}, {"started_at": -1}, {"v": 2}),
        {"type": "submitted", "prompt": {}, "number": float("nan")},
    ],
)
def test_an_event_that_nobody_of_us_writes_is_none(change: dict[str, Any]) -> None:
    """What SQLite cannot hold would stop every frontend at that place of the stream, again at each start."""
    assert parse_event(json.dumps(EVENT).encode()) == Finished(job_id="j", at=1, worker="w")
    assert parse_event(json.dumps(EVENT | change).encode()) is None


async def test_a_job_whose_id_does_not_fit_is_set_aside(
    transport: AmqpTransport, queue_name: str, stranger: aio_pika.abc.AbstractChannel
) -> None:
    body = json.dumps({"id": LONG, "prompt": {}}).encode()
    await stranger.default_exchange.publish(aio_pika.Message(body), f"{queue_name}.jobs")
    await transport.submit(job("a"))
    assert (await asyncio.wait_for(transport.taker().take(), PATIENCE)).job.id == "a"
    assert transport.unreadable.counts == {f"{queue_name}.jobs": 1}
