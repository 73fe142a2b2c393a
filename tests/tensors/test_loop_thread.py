"""Work on a loop of its own, awaited on another."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from comfy_dist.tensors.loop_thread import LoopThread


async def test_what_is_raised_there_is_raised_here() -> None:
    thread = LoopThread("test")

    async def fails() -> None:
        raise ValueError("no")

    try:
        with pytest.raises(ValueError, match="no"):
            await thread.run(fails())
    finally:
        thread.close()


async def test_who_is_cancelled_while_the_work_ends_by_itself_leaves_nothing_to_complain_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A job that is interrupted tells both its engine, which cancels the node, and whoever waits in it."""
    thread = LoopThread("test")
    begun, ended = threading.Event(), threading.Event()

    async def ends_by_itself() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
            raise ValueError("stopped")

    waiting = asyncio.ensure_future(thread.run(ends_by_itself()))
    await asyncio.to_thread(begun.wait)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.to_thread(ended.wait)
    thread.close()
    del waiting
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []
