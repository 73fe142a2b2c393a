"""Keeps the promise of a 503: what the broker did not confirm may have arrived, and will not run all the same."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from comfy_dist.errors import BrokerUnavailable, ComfyDistError
from comfy_dist.frontend.context import Context, Revoked
from comfy_dist.frontend.prompts import NEWS_SECONDS
from comfy_dist.ledger import JobRow, JobState
from comfy_dist.messages import Cancelled, CancelledFact

log = logging.getLogger(__name__)

#: Seconds between tries while broker or ledger cannot take it.
PAUSE_SECONDS = 1.0


async def revoke_all(ctx: Context) -> None:
    """Until cancelled."""
    async with asyncio.TaskGroup() as revoking:
        while True:
            revoking.create_task(_insist(ctx, await ctx.revoked.get()))


async def _insist(ctx: Context, revoked: Revoked) -> None:
    steps: tuple[Callable[[Context, Revoked], Awaitable[bool]], ...] = (_cancel, _end)
    for step in steps:
        while True:
            try:
                goes_on = await step(ctx, revoked)
            except ComfyDistError as error:
                log.debug("Prompt %s is not yet revoked: %s", revoked.job_id, error)
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                break
        if not goes_on:
            break
    ctx.ledger.outbox.remove(revoked.job_id)


async def _cancel(ctx: Context, revoked: Revoked) -> bool:
    """Tell the workers; whether there is something to revoke."""
    if not ctx.transport.connected:
        raise BrokerUnavailable("There is no connection to the broker yet.", sent=False)
    # What others said meanwhile comes first.
    await asyncio.sleep(NEWS_SECONDS)
    row = await ctx.ledger.find(revoked.job_id)
    if row is not None and _is_anothers(row, revoked):
        return False
    await ctx.transport.append_fact(CancelledFact(job=revoked.job_id, by=ctx.id))
    return True


def _is_anothers(row: JobRow, revoked: Revoked) -> bool:
    """Whether another frontend has accepted a prompt under that id since."""
    told = row.created_at > 0 and revoked.created_at > 0
    return told and (row.created_at, row.number) != (revoked.created_at, revoked.number)


async def _end(ctx: Context, revoked: Revoked) -> bool:
    """Tell the frontends, unless a worker has it and will: so nobody waits for it, and its id is used up."""
    await asyncio.sleep(NEWS_SECONDS)
    row = await ctx.ledger.find(revoked.job_id)
    if row is None or row.state is JobState.PENDING:
        started = row is not None and bool(row.workers)
        await ctx.transport.append_event(Cancelled(job_id=revoked.job_id, by=ctx.id, started=started))
    return True
