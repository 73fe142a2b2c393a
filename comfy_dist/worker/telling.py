"""Whom a worker tells what becomes of a job: all frontends, or the worker whose node waits for it."""

from __future__ import annotations

from comfy_dist.messages import CallEnded, Cancelled, Event, Failed, Finished, Job, now_ms
from comfy_dist.transport import Transport


async def tell(transport: Transport, job: Job, event: Event, worker: str) -> None:
    """`worker`: the name of the one that tells it. Raises BrokerUnavailable.

    Of a call its end alone is told; that it was begun or given back, the control stream says.
    """
    if job.call is None:
        await transport.append_event(event)
    elif isinstance(event, (Finished, Failed, Cancelled)):
        await transport.send_result(call_ended(job, event, worker), job.call.worker)


def call_ended(job: Job, ending: Finished | Failed | Cancelled, worker: str) -> CallEnded:
    """What is told of a call's end."""
    assert job.call is not None
    return CallEnded(
        call=job.id,
        parent=job.call.parent,
        parent_attempt=job.call.attempt,
        status=ending.type,
        worker=worker,
        attempt=ending.attempt,
        outputs=ending.outputs,
        meta=ending.meta,
        messages=ending.messages,
        timings=ending.timings,
        spans=ending.spans,
        home=ending.home,
        error=ending.error if isinstance(ending, Failed) else {},
        trail=ending.trail,
        started_at=ending.started_at,
        ended_at=now_ms(),
    )
