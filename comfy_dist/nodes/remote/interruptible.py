"""Waiting for somebody outside, as long as the prompt is wanted."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from comfy_dist.nodes.cluster.worker import interrupting, worker

if TYPE_CHECKING:
    from comfy_dist.calls.here import Here

T = TypeVar("T")

#: Seconds between looks at whether a ComfyUI was interrupted that tells nobody.
_LOOK_SECONDS = 0.5


async def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; an interrupt ends it."""
    here = worker()
    if here is None:
        return await _looking_up(work)
    with interrupting():
        return await here.thread.run(_of_job(here, work))


async def _of_job(here: Here, work: Coroutine[Any, Any, T]) -> T:
    try:
        job = await here.job()
    except BaseException:
        work.close()
        raise
    return await job.wait(work)


async def _looking_up(work: Coroutine[Any, Any, T]) -> T:
    """In a ComfyUI that no worker started: no event of its tells an asynchronous node that it is to end."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=_LOOK_SECONDS))[0]:
            if (management := sys.modules.get("comfy.model_management")) is not None:
                management.throw_exception_if_processing_interrupted()
    finally:
        task.cancel()
        await asyncio.wait([task])
    return task.result()
