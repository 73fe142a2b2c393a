"""Waiting for somebody outside, as long as the prompt is wanted."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from comfy_dist.nodes.cluster.worker import interrupting, worker

if TYPE_CHECKING:
    from comfy_dist.calls.here import Here

T = TypeVar("T")


async def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; it ends with an interrupt.

    In a ComfyUI that no worker started, which tells nobody who waits of it, with the work's own deadlines.
    """
    here = worker()
    if here is None:
        return await work
    with interrupting():
        return await here.thread.run(_of_job(here, work))


async def _of_job(here: Here, work: Coroutine[Any, Any, T]) -> T:
    try:
        job = await here.job()
    except BaseException:
        work.close()
        raise
    return await job.wait(work)
