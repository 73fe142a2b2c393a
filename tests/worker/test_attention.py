"""A lane is called away from its wait for a job."""

from __future__ import annotations

import asyncio

from comfy_dist.worker.attention import Attention
from tests.support.patience import PATIENCE


async def test_a_second_call_finds_a_wait_that_is_ending_already() -> None:
    attention, loop = Attention(), asyncio.get_running_loop()
    waiting = asyncio.create_task(attention.unless_called(asyncio.Event().wait))
    await asyncio.sleep(0)
    attention.call()
    # Behind the end of the wait, before who waited has noticed it.
    second = loop.create_future()
    loop.call_soon(lambda: second.set_result(attention.call()))
    assert await asyncio.wait_for(waiting, PATIENCE) is None
    await second


async def test_a_call_that_nobody_heeded_ends_the_next_wait() -> None:
    attention = Attention()
    attention.call()
    assert await attention.unless_called(asyncio.Event().wait) is None
    attention.heed()
    done = asyncio.Event()
    done.set()
    assert await attention.unless_called(done.wait) is True
