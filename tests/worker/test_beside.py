"""What may have to be done beside a job: at the right moment, at most once, and not after it."""

from __future__ import annotations

import asyncio

import pytest

from comfy_dist.messages import CancelledFact, Job
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.worker.arbiter import Arbiter
from comfy_dist.worker.draining import Draining
from comfy_dist.worker.news import News
from tests.support.patience import PATIENCE

NEVER = 3600.0


class Told:
    def __init__(self) -> None:
        self.times = 0
        self.once = asyncio.Event()

    async def tell(self) -> None:
        self.times += 1
        self.once.set()


async def test_what_lasts_is_told_and_told_once() -> None:
    told = Told()
    news = News(0.0, told.tell)
    await asyncio.wait_for(told.once.wait(), PATIENCE)
    news.tell()
    await news.settle()
    assert told.times == 1


async def test_what_is_over_before_is_not_told() -> None:
    told = Told()
    await News(NEVER, told.tell).settle()
    assert told.times == 0


async def test_what_is_asked_for_is_told_before_its_time() -> None:
    told = Told()
    news = News(NEVER, told.tell)
    news.tell()
    await news.settle()
    assert told.times == 1


async def test_a_job_that_is_executed_hears_of_its_cancellation_and_of_no_other() -> None:
    broker, heard = MemoryBroker(), list[str]()
    arbiter = Arbiter(MemoryTransport(broker), "a", max_attempts=3)
    following = asyncio.create_task(arbiter.run())
    frontend = MemoryTransport(broker)
    with arbiter.calling(Job(id="mine", prompt={}), heard.append):
        await frontend.append_fact(CancelledFact(job="another's", by="f"))
        await frontend.append_fact(CancelledFact(job="mine", by="g"))
        await asyncio.wait_for(arbiter.catch_up(), PATIENCE)
        assert heard == ["g"]
    following.cancel()


async def test_a_cancellation_that_came_first_is_heard_too() -> None:
    broker, heard = MemoryBroker(), list[str]()
    arbiter = Arbiter(MemoryTransport(broker), "a", max_attempts=3)
    following = asyncio.create_task(arbiter.run())
    await MemoryTransport(broker).append_fact(CancelledFact(job="mine", by="g"))
    await asyncio.wait_for(arbiter.catch_up(), PATIENCE)
    with arbiter.calling(Job(id="mine", prompt={}), heard.append):
        assert heard == ["g"]
    following.cancel()


@pytest.mark.parametrize("before", [True, False], ids=["before it", "while it runs"])
def test_who_executes_hears_once_that_the_worker_stops(before: bool) -> None:
    draining, heard = Draining(None), list[str]()
    if before:
        draining.tell()
    with draining.calling(lambda: heard.append("stop")):
        draining.tell()
        draining.tell()
        assert heard == ["stop"]
    draining.tell()
    assert heard == ["stop"]
