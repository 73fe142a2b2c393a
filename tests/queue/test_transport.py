"""What every transport promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TypeVar

from comfy_dist.messages import (
    Announcement,
    CallEnded,
    Command,
    Event,
    Finished,
    Job,
    Progress,
    Reply,
    StartedFact,
    Submitted,
    Urgency,
    WorkerState,
)
from comfy_dist.transport import Bookmark, ReceivedCommand, Recorded, Rewind, Transport
from tests.queue.conftest import Join
from tests.support.patience import PATIENCE

T = TypeVar("T")
PROMPT = {"1": {"class_type": "EmptyImage", "inputs": {"width": 8}}}


def job(id_: str, urgency: Urgency = Urgency.NORMAL) -> Job:
    return Job(id=id_, prompt=PROMPT, urgency=urgency, extra_data={"api_key_comfy_org": "secret"})


def announcement(id_: str, state: WorkerState = WorkerState.IDLE) -> Announcement:
    return Announcement(id=id_, name=id_, host="h", pid=1, version="1", state=state, engine="graph")


async def some(stream: AsyncIterator[T], count: int) -> list[T]:
    """The next `count` items."""
    items: list[T] = []
    async with asyncio.timeout(PATIENCE):
        async for item in stream:
            items.append(item)
            if len(items) == count:
                break
    return items


async def recorded(transport: Transport, count: int, after: Bookmark | None = None) -> list[Recorded | Rewind]:
    async with aclosing(transport.events(after)) as stream:
        return await some(stream, count)


async def test_a_job_arrives_whole(join: Join) -> None:
    frontend, worker = await join(), await join()
    await frontend.submit(job("a"))
    delivery = await asyncio.wait_for(worker.taker().take(), PATIENCE)
    assert delivery.job == job("a")
    await delivery.acknowledge()


async def test_jobs_come_by_urgency_then_in_order(join: Join) -> None:
    frontend, worker = await join(), await join()
    for urgency in reversed(Urgency):
        for number in (1, 2):
            await frontend.submit(job(f"{urgency}{number}", urgency))
    taken = []
    for _ in range(8):
        delivery = await asyncio.wait_for(worker.taker().take(), PATIENCE)
        taken.append(delivery.job.id)
        await delivery.acknowledge()
    assert taken == ["call1", "call2", "high1", "high2", "normal1", "normal2", "low1", "low2"]


async def test_an_idle_worker_gets_what_comes_later(join: Join) -> None:
    frontend, worker = await join(), await join()
    for urgency in Urgency:
        taking = asyncio.ensure_future(worker.taker().take())
        await asyncio.sleep(0.2)
        await frontend.submit(job(urgency.value, urgency))
        delivery = await asyncio.wait_for(taking, PATIENCE)
        assert delivery.job.id == urgency.value
        await delivery.acknowledge()


async def test_each_job_goes_to_one_worker(join: Join) -> None:
    frontend, workers = await join(), [await join() for _ in range(3)]
    taken: list[str] = []

    async def work(worker: Transport) -> None:
        while True:
            delivery = await worker.taker().take()
            taken.append(delivery.job.id)
            await delivery.acknowledge()

    tasks = [asyncio.ensure_future(work(worker)) for worker in workers]
    expected = [f"job{number}" for number in range(60)]
    for id_ in expected:
        await frontend.submit(job(id_))
    async with asyncio.timeout(PATIENCE):
        while len(taken) < len(expected):
            await asyncio.sleep(0.05)
    # None comes twice.
    await asyncio.sleep(0.3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(taken) == sorted(expected)


async def test_a_requeued_job_comes_again_first(join: Join) -> None:
    frontend, worker = await join(), await join()
    for id_ in ("a", "b"):
        await frontend.submit(job(id_))
    delivery = await worker.taker().take()
    await delivery.requeue()
    again = [await asyncio.wait_for(worker.taker().take(), PATIENCE) for _ in range(2)]
    assert [delivery.job.id for delivery in again] == ["a", "b"]


async def test_a_parked_job_comes_back_after_others(join: Join) -> None:
    frontend, worker = await join(), await join()
    for id_ in ("a", "b"):
        await frontend.submit(job(id_, Urgency.HIGH))
    await (await worker.taker().take()).park()
    second = await asyncio.wait_for(worker.taker().take(), PATIENCE)
    assert second.job.id == "b"
    await second.acknowledge()
    back = await asyncio.wait_for(worker.taker().take(), PATIENCE)
    assert back.job == job("a", Urgency.HIGH)


async def test_giving_up_waiting_for_a_job_loses_none(join: Join) -> None:
    frontend, worker = await join(), await join()
    expected = {f"job{number}" for number in range(20)}
    taken: set[str] = set()

    async def submit() -> None:
        for id_ in sorted(expected):
            await frontend.submit(job(id_))
            await asyncio.sleep(0.01)

    submitting, seconds = asyncio.ensure_future(submit()), 0.015
    async with asyncio.timeout(PATIENCE):
        while taken != expected:
            taking = asyncio.ensure_future(worker.taker().take())
            done, _ = await asyncio.wait([taking], timeout=seconds)
            if not done:
                # A broker that has much to do may need longer for each.
                seconds *= 1.05
                taking.cancel()
                await asyncio.wait([taking])
            if not taking.cancelled():
                delivery = taking.result()
                taken.add(delivery.job.id)
                await delivery.acknowledge()
    await submitting


async def test_events_are_read_in_order_by_everyone(join: Join) -> None:
    writer, reader, late = await join(), await join(), await join()
    events: list[Event] = [Submitted.of(job("a")), Finished(job_id="a", outputs={"1": {"images": []}})]
    reading_task = asyncio.ensure_future(recorded(reader, 2))
    for event in events:
        await writer.append_event(event)
    for entries in (await reading_task, await recorded(late, 2)):
        assert [entry.event for entry in entries if isinstance(entry, Recorded)] == events


async def test_events_carry_no_credentials(join: Join) -> None:
    writer = await join()
    await writer.append_event(Submitted.of(job("a")))
    (entry,) = await recorded(writer, 1)
    assert isinstance(entry, Recorded)
    assert entry.event is not None
    assert b"secret" not in entry.event.to_bytes()


async def test_a_reader_goes_on_after_its_bookmark(join: Join) -> None:
    writer, reader = await join(), await join()
    for number in range(4):
        await writer.append_event(Finished(job_id=str(number)))
    _, second = await recorded(reader, 2)
    assert isinstance(second, Recorded)
    rest = await recorded(reader, 2, second.bookmark)
    assert [entry.event.job_id for entry in rest if isinstance(entry, Recorded)] == ["2", "3"]  # type: ignore[union-attr]


async def test_a_large_event_arrives_whole(join: Join) -> None:
    writer, reader = await join(), await join()
    large = Submitted.of(Job(id="a", prompt={"1": {"inputs": {"text": "x" * 3_000_000}}}))
    await writer.append_event(large)
    (entry,) = await recorded(reader, 1)
    assert isinstance(entry, Recorded)
    assert entry.event == large


async def test_facts_have_one_order_for_all(join: Join) -> None:
    workers = [await join() for _ in range(3)]
    readers = [aclosing(worker.facts()) for worker in workers]
    pending = [asyncio.ensure_future(some(reader.thing, 30)) for reader in readers]

    async def claim(number: int) -> None:
        for attempt in range(10):
            await workers[number].append_fact(StartedFact(job="a", worker=str(number), attempt=attempt))

    await asyncio.gather(*(claim(number) for number in range(3)))
    orders = await asyncio.gather(*pending)
    assert orders[0] == orders[1] == orders[2]


async def test_a_worker_is_alive_while_it_is_connected(join: Join) -> None:
    watcher, worker = await join(), await join()
    assert not await watcher.is_alive("w1")
    await worker.enlist("w1")
    assert await watcher.is_alive("w1")
    assert await worker.is_alive("w1")
    await worker.close()
    async with asyncio.timeout(PATIENCE):
        while await watcher.is_alive("w1"):
            await asyncio.sleep(0.05)


async def test_it_is_known_how_many_workers_are_connected(join: Join) -> None:
    watcher, workers = await join(), [await join(), await join()]
    assert await watcher.enlisted() == 0
    for number, worker in enumerate(workers, start=1):
        await worker.enlist(f"w{number}")
        assert await watcher.enlisted() == number
    await workers[0].close()
    async with asyncio.timeout(PATIENCE):
        while await watcher.enlisted() != 1:
            await asyncio.sleep(0.05)


def progress(sequence: int, client: str | None, body: bytes = b"{}") -> Progress:
    return Progress(
        job_id="j", client_id=client, sequence=sequence, attempt=1, event="progress", node="3", body=body
    )


async def test_progress_reaches_those_who_follow_the_client(join: Join) -> None:
    worker, frontend, other = await join(), await join(), await join()
    await frontend.follow("client.*.#")
    first, own, last = progress(1, None), progress(2, "client.*.#", bytes(range(256))), progress(3, None)
    async with frontend.progress() as mine, other.progress() as theirs:
        for each in (first, own, last):
            await worker.emit([each])
        assert await some(mine, 3) == [first, own, last]
        assert await some(theirs, 2) == [first, last]


async def test_progress_keeps_its_order(join: Join) -> None:
    worker, frontend = await join(), await join()
    await frontend.follow("c")
    async with frontend.progress() as stream:
        for sequence in range(200):
            await worker.emit([progress(sequence, "c")])
        assert [each.sequence for each in await some(stream, 200)] == list(range(200))


async def test_an_unfollowed_client_is_silent(join: Join) -> None:
    worker, frontend = await join(), await join()
    await frontend.follow("c")
    async with frontend.progress() as stream:
        await worker.emit([progress(1, "c")])
        assert await some(stream, 1) == [progress(1, "c")]
        await frontend.unfollow("c")
        await worker.emit([progress(2, "c")])
        await worker.emit([progress(3, None)])
        assert await some(stream, 1) == [progress(3, None)]


async def test_announcements_reach_every_listener(join: Join) -> None:
    worker, one, other = await join(), await join(), await join()
    async with one.announcements() as ones, other.announcements() as others:
        await worker.announce(announcement("w1"))
        for stream in (ones, others):
            assert await some(stream, 1) == [announcement("w1")]


async def test_who_subscribes_receives_what_is_sent_until_it_leaves(join: Join) -> None:
    worker, listener, witness = await join(), await join(), await join()
    async with witness.announcements() as everything:

        async def announce(id_: str) -> None:
            """Where the witness has it the others are not to have it later."""
            await worker.announce(announcement(id_))
            assert await some(everything, 1) == [announcement(id_)]

        for number in range(3):
            await announce("nobody listens")
            async with listener.announcements() as stream:
                await announce(f"w{number}")
                assert await some(stream, 1) == [announcement(f"w{number}")]


async def test_a_command_is_answered_by_the_worker_it_names(join: Join) -> None:
    frontend, workers = await join(), [await join(), await join()]

    async def obey(commands: AsyncIterator[ReceivedCommand], name: str) -> None:
        async for received in commands:
            await received.reply(
                Reply(command=received.command.id, worker=name, result={"verb": received.command.verb})
            )

    for number, worker in enumerate(workers):
        await worker.enlist(f"w{number}")
    async with workers[0].commands() as ones, workers[1].commands() as others:
        tasks = [asyncio.ensure_future(obey(commands, f"w{i}")) for i, commands in enumerate((ones, others))]
        for name in ("w0", "w1"):
            answer = await frontend.ask(Command(verb="catalogue", worker=name), PATIENCE)
            assert answer is not None
            assert (answer.worker, answer.result) == (name, {"verb": "catalogue"})
        answer = await frontend.ask(Command(verb="announce"), PATIENCE)
        assert answer is not None
        assert answer.worker in {"w0", "w1"}
        assert await frontend.ask(Command(verb="free", worker="nobody"), 0.3) is None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_end_of_a_call_reaches_the_worker_of_its_parent(join: Join) -> None:
    here, there, other = await join(), await join(), await join()
    await here.enlist("here")
    await other.enlist("other")
    ended = [
        CallEnded(
            call=f"c{number}", parent="j", parent_attempt=2, status="finished", outputs={"7": {"images": []}}
        )
        for number in range(3)
    ]
    await there.send_result(ended[0], "here")
    async with aclosing(here.results()) as results:
        assert await some(results, 1) == ended[:1]
    # The first may come once more: that it was received is told when the next is asked for.
    for each in ended[1:]:
        await there.send_result(each, "here")
    received: list[CallEnded] = []
    async with asyncio.timeout(PATIENCE), aclosing(here.results()) as results:
        async for each in results:
            received += [each] * (each != ended[0])
            if len(received) == 2:
                break
    assert received == ended[1:]
    await there.send_result(ended[0], "gone")
