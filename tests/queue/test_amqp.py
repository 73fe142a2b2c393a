"""What RabbitMQ in particular demands, refuses and does to us."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from comfy_dist.errors import BrokerRefused, BrokerUnavailable
from comfy_dist.messages import Announcement, Cleared, EndedFact, Finished, Job, Progress, StartedFact, Submitted
from comfy_dist.transport import Bookmark, Recorded, Rewind
from comfy_dist.transport.amqp import AmqpTransport, batches, work
from comfy_dist.transport.amqp.names import Names
from tests.support.patience import PATIENCE
from tests.support.processes import Process, finished, module
from tests.support.rabbitmq import Rabbit, free_port
from tests.support.wire import Wire


@pytest.fixture
async def channel(amqp_uri: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """Someone else's channel, to look and meddle."""
    connection = await aio_pika.connect(amqp_uri)
    async with connection:
        yield await connection.channel()


def job(id_: str) -> Job:
    return Job(id=id_, prompt={"1": {"class_type": "EmptyImage", "inputs": {}}})


# What is declared


def test_nothing_is_declared_that_a_newer_broker_refuses() -> None:
    """RabbitMQ 4: no transient shared queues, no priorities on quorum queues, a low delivery limit by default."""
    for name, arguments in (Names("n").queues | Names("n").streams(604800.0, 2**31)).items():
        assert arguments["x-queue-type"] in ("quorum", "stream"), name
        assert "x-max-priority" not in arguments
        # It eats accepted jobs.
        assert "x-expires" not in arguments
        if arguments["x-queue-type"] == "quorum":
            assert arguments["x-delivery-limit"] > 1_000_000


async def test_a_stream_keeps_its_retention_and_that_is_said(
    amqp_uri: str, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    old = AmqpTransport(amqp_uri, queue_name, retention=1000)
    await old.open()
    await old.append_event(Cleared(at=1))
    await old.close()
    new = AmqpTransport(amqp_uri, queue_name, retention=2000)
    await new.open()
    try:
        await new.append_event(Cleared(at=2))
        async with asyncio.timeout(PATIENCE):
            entries = new.events(None)
            found = [await anext(entries), await anext(entries)]
    finally:
        await new.close()
    assert [entry.event.at for entry in found if isinstance(entry, Recorded) and entry.event] == [1, 2]
    said = [
        record.message for record in caplog.records if "keeps the retention it was made with" in record.message
    ]
    assert len(said) == 2  # of two streams, once each
    assert f"{queue_name}.events" in said[0] + said[1]
    assert "max-age 1000s" in said[0]


def test_control_facts_are_thin() -> None:
    worker = "a-host-name-of-thirty-characters-gpu0-0123abcd"
    fact = StartedFact(job="0e62c092-7a02-4db0-820e-1c72b3d11db0", worker=worker, attempt=12)
    assert len(fact.to_bytes()) < 200


async def test_a_queue_with_other_arguments_is_refused_with_a_sentence(
    amqp_uri: str, queue_name: str, channel: aio_pika.abc.AbstractChannel
) -> None:
    await channel.declare_queue(f"{queue_name}.jobs", durable=True)
    with pytest.raises(BrokerRefused, match=r"other arguments.*--distributed-queue-name"):
        await AmqpTransport(amqp_uri, queue_name).open()


async def test_a_wrong_password_is_refused_without_telling_it(amqp_uri: str, queue_name: str) -> None:
    uri = amqp_uri.replace("guest:guest", "guest:sesame")
    with pytest.raises(BrokerRefused, match="user name or password") as refused:
        await AmqpTransport(uri, queue_name).open()
    assert "sesame" not in str(refused.value)


async def test_a_virtual_host_that_is_not_there_is_said(
    amqp_uri: str, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    transport = AmqpTransport(f"{amqp_uri.rstrip('/')}/nowhere", queue_name)
    opening = asyncio.create_task(transport.open())
    try:
        async with asyncio.timeout(PATIENCE):
            # It is tried again and again: it may be made yet.
            while "/nowhere does not answer (it has no such virtual host" not in caplog.text:
                await asyncio.sleep(0.05)
    finally:
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await transport.close()


@pytest.mark.parametrize("command", ["worker", "comfyui"])
def test_a_command_with_a_wrong_password_ends_with_a_sentence(
    amqp_uri: str, queue_name: str, tmp_path: Path, command: str
) -> None:
    role = ["--distributed-queue-frontend", "--port", "0"] if command == "comfyui" else ["--cpu"]
    done = finished(
        module(
            f"comfy_dist.cli.{command}",
            "--distributed-queue-connection-uri",
            amqp_uri.replace("guest:guest", "guest:sesame"),
            "--distributed-queue-name",
            queue_name,
            *role,
        ),
        cwd=tmp_path,
    )
    assert done.returncode == 3
    last = done.stderr.splitlines()[-1]
    assert "user name or password" in last
    assert "sesame" not in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreachable_broker_is_waited_for_with_a_sentence(tmp_path: Path, rabbit: Rabbit) -> None:
    port = free_port()
    command = module(
        "comfy_dist.cli.worker",
        "--distributed-queue-connection-uri",
        f"amqp://guest:sesame@127.0.0.1:{port}/",
        "--cpu",
        "--health-port",
        "0",
    )
    process = Process(command, cwd=tmp_path)
    try:
        process.wait_for(rf"127\.0\.0\.1:{port}/ does not answer")
        began = time.monotonic()
        while len(said := [line for line in process.lines if "does not answer" in line]) < 2:
            assert time.monotonic() - began < PATIENCE
            time.sleep(0.2)
        first, second = (dt.datetime.strptime(line.split()[0], "%H:%M:%S") for line in said[:2])
        # Not one for each try: they come every second.
        assert (second - first).seconds > 3
        assert "Traceback" not in process.log
        assert "sesame" not in process.log
    finally:
        assert process.stop() == 0


# Streams


async def read(transport: AmqpTransport, count: int, after: Bookmark | None) -> list[Recorded | Rewind]:
    entries: list[Recorded | Rewind] = []
    async with asyncio.timeout(PATIENCE), aclosing(transport.events(after)) as stream:
        async for entry in stream:
            entries.append(entry)
            if len(entries) == count:
                break
    return entries


async def test_a_stream_made_anew_rewinds_its_reader(
    transport: AmqpTransport, queue_name: str, channel: aio_pika.abc.AbstractChannel
) -> None:
    for number in range(5):
        await transport.append_event(Finished(job_id=f"old{number}"))
    *_, last = await read(transport, 5, None)
    assert isinstance(last, Recorded)
    await channel.queue_delete(f"{queue_name}.events")
    await transport.append_event(Finished(job_id="new"))
    rewind, entry = await read(transport, 2, last.bookmark)
    assert isinstance(rewind, Rewind)
    assert isinstance(entry, Recorded)
    assert isinstance(entry.event, Finished)
    assert entry.event.job_id == "new"


async def test_a_bookmark_of_another_stream_rewinds(transport: AmqpTransport) -> None:
    for number in range(3):
        await transport.append_event(Finished(job_id=str(number)))
    entries = await read(transport, 4, Bookmark(offset=1, message_id="of another stream"))
    assert isinstance(entries[0], Rewind)
    assert [entry.event.job_id for entry in entries[1:]] == ["0", "1", "2"]  # type: ignore[union-attr]


async def test_a_reader_survives_the_deletion_of_its_stream(
    transport: AmqpTransport, queue_name: str, channel: aio_pika.abc.AbstractChannel
) -> None:
    async with aclosing(transport.events(None)) as stream:
        await transport.append_event(Finished(job_id="before"))
        first = await asyncio.wait_for(anext(stream), PATIENCE)
        assert isinstance(first, Recorded)
        await channel.queue_delete(f"{queue_name}.events")
        await transport.append_event(Finished(job_id="after"))
        seen = []
        async with asyncio.timeout(PATIENCE):
            while not (seen and isinstance(seen[-1], Recorded)):
                seen.append(await anext(stream))
    assert isinstance(seen[0], Rewind)
    assert seen[-1].event.job_id == "after"  # type: ignore[union-attr]


async def test_what_a_newer_version_writes_only_moves_the_bookmark(
    transport: AmqpTransport, queue_name: str, channel: aio_pika.abc.AbstractChannel
) -> None:
    for body in (b'{"v":1,"type":"renamed","job_id":"a"}', b"\xff\x00 no JSON"):
        await channel.default_exchange.publish(aio_pika.Message(body), f"{queue_name}.events")
    await transport.append_event(Finished(job_id="a"))
    first, second, third = await read(transport, 3, None)
    assert isinstance(first, Recorded)
    assert isinstance(second, Recorded)
    assert first.event is None
    assert second.event is None
    assert isinstance(third, Recorded)
    assert isinstance(third.event, Finished)


# Work


async def test_an_unreadable_job_goes_to_the_dead_letters(
    transport: AmqpTransport, queue_name: str, channel: aio_pika.abc.AbstractChannel
) -> None:
    await channel.default_exchange.publish(aio_pika.Message(b"no job"), f"{queue_name}.jobs")
    await transport.submit(job("a"))
    delivery = await asyncio.wait_for(transport.taker().take(), PATIENCE)
    assert delivery.job.id == "a"
    dead = await channel.get_queue(f"{queue_name}.dead")
    message = await dead.get(timeout=PATIENCE)
    assert message is not None
    assert message.body == b"no job"
    assert message.headers["reason"]


async def test_a_buried_job_keeps_its_reason(
    transport: AmqpTransport, queue_name: str, channel: aio_pika.abc.AbstractChannel
) -> None:
    await transport.submit(job("a"))
    await (await transport.taker().take()).bury("It killed three engines.")
    message = await (await channel.get_queue(f"{queue_name}.dead")).get(timeout=PATIENCE)
    assert message is not None
    assert message.headers["reason"] == "It killed three engines."


async def test_jobs_flow_again_after_their_queue_was_deleted(
    transport: AmqpTransport,
    queue_name: str,
    channel: aio_pika.abc.AbstractChannel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work, "RENEW_SECONDS", 3.0)
    taking = asyncio.ensure_future(transport.taker().take())
    await asyncio.sleep(0.3)
    await channel.queue_delete(f"{queue_name}.jobs")
    await transport.submit(job("a"))
    delivery = await asyncio.wait_for(taking, PATIENCE)
    assert delivery.job.id == "a"


async def test_an_idle_worker_leaves_nothing_unacknowledged_when_it_stops_waiting(
    rabbit: Rabbit, queue_name: str
) -> None:
    transport = AmqpTransport(rabbit.uri, queue_name)
    await transport.open()
    for number in range(3):
        await transport.submit(job(str(number)))
    held = await transport.taker().take()
    await asyncio.sleep(0.5)
    await asyncio.to_thread(rabbit.until_counts, f"{queue_name}.jobs", ready=2, held=1)
    await held.acknowledge()
    await transport.close()


async def test_everything_goes_on_after_a_restart_of_the_broker(rabbit: Rabbit, queue_name: str) -> None:
    frontend, worker = AmqpTransport(rabbit.uri, queue_name), AmqpTransport(rabbit.uri, queue_name)
    for transport in (frontend, worker):
        await transport.open()
    try:
        await worker.enlist("w1")
        await frontend.follow("c")
        subscribed = AsyncExitStack()
        progress = await subscribed.enter_async_context(frontend.progress())
        announcements = await subscribed.enter_async_context(frontend.announcements())
        facts = aclosing(frontend.facts())
        await frontend.append_event(Submitted.of(job("a")))
        await frontend.append_fact(EndedFact(job="a"))
        assert await asyncio.wait_for(anext(facts.thing), PATIENCE) == EndedFact(job="a")
        taking = asyncio.ensure_future(worker.taker().take())
        await asyncio.sleep(0.3)
        await asyncio.to_thread(rabbit.restart)
        await frontend.submit(job("b"))
        assert (await asyncio.wait_for(taking, PATIENCE)).job.id == "b"
        await frontend.append_fact(EndedFact(job="b"))
        assert await asyncio.wait_for(anext(facts.thing), PATIENCE) == EndedFact(job="b")
        # Who is connected is subscribed again; the broker takes a moment to forget the former connections.
        async with asyncio.timeout(PATIENCE):
            while not (frontend.connected and worker.connected and await frontend.enlisted() == 1):
                await asyncio.sleep(0.05)
        assert await frontend.is_alive("w1")
        message = Progress(job_id="b", client_id="c", sequence=1, attempt=1, event="e", body=b"x")
        worker_is = Announcement(id="w", name="w", host="h", pid=1, version="1", state="idle", engine="graph")
        await worker.emit([message])
        await worker.announce(worker_is)
        assert await asyncio.wait_for(anext(progress), PATIENCE) == message
        assert await asyncio.wait_for(anext(announcements), PATIENCE) == worker_is
        await subscribed.aclose()
    finally:
        await frontend.close()
        await worker.close()


async def test_a_broker_that_hangs_up_before_it_greets_is_asked_again(
    amqp_uri: str, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen where a connection was reset while it was made; rarely, so the library is made to say it here."""
    connect, hung_up = aio_pika.connect, [StopAsyncIteration] * 2

    async def sometimes(*arguments: Any, **more: Any) -> aio_pika.abc.AbstractConnection:
        if hung_up:
            raise hung_up.pop()
        return await connect(*arguments, **more)

    monkeypatch.setattr(aio_pika, "connect", sometimes)
    transport = AmqpTransport(amqp_uri, queue_name)
    async with asyncio.timeout(PATIENCE):
        await transport.open()
    await transport.close()
    assert not hung_up


async def test_a_broker_that_is_away_is_told_within_ten_seconds(amqp_uri: str, queue_name: str) -> None:
    async with Wire(amqp_uri) as wire:
        transport = AmqpTransport(wire.uri, queue_name)
        await transport.open()
        wire.cut()
        assert not await asyncio.wait_for(_down(transport), PATIENCE)
        with pytest.raises(BrokerUnavailable, match="did not confirm within 10 s"):
            await transport.submit(job("a"))
        wire.mend()
        await transport.submit(job("b"))
        await transport.close()


async def _down(transport: AmqpTransport) -> bool:
    while transport.connected:
        await asyncio.sleep(0.05)
    return transport.connected


async def test_a_blocked_broker_refuses_in_time_and_serves_again(rabbit: Rabbit, queue_name: str) -> None:
    """A disk alarm stops publishes, not deliveries."""
    transport = AmqpTransport(rabbit.uri, queue_name)
    await transport.open()
    await transport.submit(job("a"))
    await asyncio.to_thread(rabbit.ctl, "set_disk_free_limit", "100000GB")
    try:
        with pytest.raises(BrokerUnavailable):
            await transport.submit(job("b"))
        delivery = await asyncio.wait_for(transport.taker().take(), PATIENCE)
        assert delivery.job.id == "a"
        await delivery.acknowledge()
    finally:
        await asyncio.to_thread(rabbit.ctl, "set_disk_free_limit", "50MB")
    await transport.submit(job("c"))
    await transport.close()


# Batches of progress


def test_a_batch_is_read_as_it_was_packed() -> None:
    batch = [
        Progress(
            job_id="a", client_id=client, sequence=n, attempt=1, event="e", node=node, binary=n > 1, body=body
        )
        for n, (client, node, body) in enumerate([("c", "1", b""), (None, None, bytes(range(256)))])
    ]
    assert batches.unpack(batches.pack(batch)) == batch


@pytest.mark.parametrize("cut", [1, 3, 5, -1])
def test_a_cut_batch_is_an_error(cut: int) -> None:
    message = Progress(job_id="a", client_id=None, sequence=1, attempt=1, event="e", body=b"body")
    with pytest.raises(ValueError, match=r"cut off|without a body"):
        batches.unpack(batches.pack([message])[:cut])


def test_a_batch_whose_header_is_no_object_is_an_error() -> None:
    with pytest.raises(ValueError, match="no object"):
        batches.unpack(b"\0\0\0\x02[]\0\0\0\x01x")
