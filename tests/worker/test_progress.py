"""What a running prompt sends to its client, and what travels with its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from comfy_dist.engine import EngineEvent, Preview
from comfy_dist.messages import Job, Progress
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.worker.progress import TRAIL_BYTES, ProgressSender
from tests.support.patience import PATIENCE

Make = Callable[..., ProgressSender]
#: What has come, with all that was sent before.
Received = Callable[[], Awaitable[list[Progress]]]


@pytest.fixture
async def arrived() -> AsyncIterator[tuple[Make, Received]]:
    """Makes senders that collect for a minute, and what they send."""
    broker, received = MemoryBroker(), list[Progress]()
    frontend = MemoryTransport(broker)
    await frontend.follow("me")

    async def read(all_progress: AsyncIterator[Progress]) -> None:
        async for progress in all_progress:
            received.append(progress)

    async def so_far() -> list[Progress]:
        last = Progress(job_id="none", client_id="me", sequence=1, attempt=1, event="last", body=b"")
        await MemoryTransport(broker).emit([last])
        async with asyncio.timeout(PATIENCE):
            while last not in received:
                await asyncio.sleep(0.005)
        received.remove(last)
        return received

    def make(client_id: str | None = "me", burst: float = 60.0) -> ProgressSender:
        transport = MemoryTransport(broker)
        transport.burst_seconds = burst
        return ProgressSender(transport, Job(id="j", prompt={}, client_id=client_id), 1)

    async with frontend.progress() as all_progress:
        reading = asyncio.create_task(read(all_progress))
        yield make, so_far
        await frontend.close()
        await reading


def executing(node: str, **more: Any) -> EngineEvent:
    return EngineEvent("executing", {"node": node, "display_node": node, "prompt_id": "j", **more})


async def finished(sender: ProgressSender) -> None:
    sender.finish()
    await asyncio.wait_for(sender.sent(), PATIENCE)


async def test_what_was_not_sent_travels_with_the_end(arrived: tuple[Make, Received]) -> None:
    make, received = arrived
    sender = make()
    sender.emit(executing("1"))
    sender.emit(executing("2"))
    trail = sender.take_trail()
    await finished(sender)
    assert [(each.event, each.node) for each in trail] == [("executing", "1"), ("executing", "2")]
    assert [json.loads(each.body)["data"]["node"] for each in trail] == ["1", "2"]
    assert sender.last == 2
    assert await received() == []


async def test_without_a_trail_everything_is_sent_in_order(arrived: tuple[Make, Received]) -> None:
    make, received = arrived
    sender = make()
    for node in range(100):
        sender.emit(executing(str(node)))
    await finished(sender)
    assert [each.sequence for each in await received()] == list(range(1, 101))
    assert sender.take_trail() == ()


@pytest.mark.parametrize(
    "unfit",
    [Preview("1", b"\0" * 8), executing("1", text="x" * TRAIL_BYTES)],
    ids=["a picture", "too much"],
)
async def test_pictures_and_much_text_are_sent_by_themselves(
    arrived: tuple[Make, Received], unfit: EngineEvent | Preview
) -> None:
    make, received = arrived
    sender = make()
    sender.emit(executing("1"))
    sender.emit(unfit)
    assert sender.take_trail() == ()
    await finished(sender)
    assert [each.sequence for each in await received()] == [1, 2]


async def test_a_replayed_message_is_no_part_of_a_trail(arrived: tuple[Make, Received]) -> None:
    make, received = arrived
    sender = make()
    sender.emit(executing("1"))
    sender.replay()
    assert sender.take_trail() == ()
    await finished(sender)
    assert [each.sequence for each in await received()] == [1, 1]


async def test_without_a_client_only_what_is_for_everyone_remains(arrived: tuple[Make, Received]) -> None:
    make, _ = arrived
    sender = make(client_id=None)
    sender.emit(executing("1"))
    sender.emit(EngineEvent("progress_state", {"prompt_id": "j", "nodes": {}}))
    assert [each.event for each in sender.take_trail()] == ["progress_state"]
    await finished(sender)


async def test_what_is_told_of_calls_waits_for_more_of_it_and_for_nothing_else(
    arrived: tuple[Make, Received], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfy_dist.worker.progress.CALL_BURST", 60.0)
    make, received = arrived
    sender = make(burst=0.0)
    sender.emit(executing("rank 1"), of_call=True)
    await asyncio.sleep(0.02)
    sender.emit(executing("rank 2"), of_call=True)
    assert await received() == []
    sender.emit(executing("own"))
    async with asyncio.timeout(PATIENCE):
        while len(await received()) < 3:
            await asyncio.sleep(0.005)
    assert [each.node for each in await received()] == ["rank 1", "rank 2", "own"]
    sender.emit(executing("rank 1"), of_call=True)
    await finished(sender)
    assert [each.sequence for each in await received()] == [1, 2, 3, 4]


def test_more_may_come_when_the_moment_to_send_has_come_on_the_loop_of_services() -> None:
    """uvloop's handle of such a call is not that of a later one."""
    uvloop = pytest.importorskip("uvloop")

    async def send() -> None:
        transport = MemoryTransport(MemoryBroker())
        transport.burst_seconds = 0.0
        sender = ProgressSender(transport, Job(id="j", prompt={}, client_id="me"), 1)
        for node in "12":
            sender.emit(executing(node))
        await finished(sender)
        assert sender.take_trail() == ()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(send())
