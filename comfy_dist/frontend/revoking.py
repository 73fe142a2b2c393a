"""Keeps the promise of a 503: what the broker did not confirm may have arrived, and will not run all the same.

Unless it was submitted again meanwhile, here or elsewhere: submissions of a job are told from each other by their
times.
"""

from __future__ import annotations

import asyncio
import logging

from comfy_dist.errors import ComfyDistError
from comfy_dist.frontend.context import Context
from comfy_dist.messages import Revoked, RevokedFact

log = logging.getLogger(__name__)

#: Seconds between tries while the broker cannot take it.
PAUSE_SECONDS = 1.0


async def revoke_all(ctx: Context) -> None:
    """Until cancelled."""
    async with asyncio.TaskGroup() as revoking:
        while True:
            revoking.create_task(_insist(ctx, await ctx.revoked.get()))


async def _insist(ctx: Context, revoked: Revoked) -> None:
    fact = RevokedFact(job=revoked.job_id, submitted_at=revoked.submitted_at)
    while True:
        try:
            # First the workers, who may be about to begin it.
            await ctx.transport.append_fact(fact)
            await ctx.transport.append_event(revoked)
        except ComfyDistError as error:
            log.debug("Prompt %s is not yet revoked: %s", revoked.job_id, error)
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            break
    ctx.ledger.outbox.remove(revoked.job_id)
