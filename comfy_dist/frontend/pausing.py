"""Pausing workers: the facts that say it, and their memory where the transport has none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from comfy_dist.frontend.context import Context
from comfy_dist.frontend.storage import usable_name
from comfy_dist.messages import Announcement, PausedFact, ResumedFact
from comfy_dist.pauses import Pauses

log = logging.getLogger(__name__)

_kept: TypeAdapter[list[PausedFact]] = TypeAdapter(list[PausedFact])


async def pause(ctx: Context, worker: str | None = None, name: str | None = None) -> None:
    """One start of a worker by its id, those of a name, or all. When it returns, none of them begins a job."""
    await _say(ctx, PausedFact(worker=worker, name=name))


async def resume_all(ctx: Context) -> None:
    """End the pause of all; who was paused alone stays so."""
    await _say(ctx, ResumedFact())


async def resume(ctx: Context, workers: Sequence[Announcement], name: str | None = None) -> None:
    """End the pauses of these workers, by their ids as by their names, and of that name."""
    for worker in workers:
        await _say(ctx, ResumedFact(worker=worker.id, name=worker.name))
    if name is not None and name not in {worker.name for worker in workers}:
        await _say(ctx, ResumedFact(name=name))


async def say_kept(ctx: Context) -> None:
    """What was paused when a frontend without a broker last ended, before anyone can take a job."""
    if not ctx.transport.durable:
        for fact in (await asyncio.to_thread(_read, _file(ctx))).standing:
            await ctx.transport.append_fact(fact)


async def _say(ctx: Context, fact: PausedFact | ResumedFact) -> None:
    await ctx.transport.append_fact(fact)
    if not ctx.transport.durable:
        await asyncio.to_thread(_keep, _file(ctx), fact)


def _file(ctx: Context) -> Path:
    return ctx.state / "pauses.json"


def _read(path: Path) -> Pauses:
    pauses = Pauses()
    try:
        for fact in _kept.validate_json(path.read_bytes()):
            pauses.fold(fact)
    except FileNotFoundError:
        return pauses
    except (OSError, ValidationError) as error:
        log.warning("%s is not understood and ignored: %s", path, error)
    return pauses


def _keep(path: Path, fact: PausedFact | ResumedFact) -> None:
    pauses = _read(path)
    pauses.fold(fact)
    # An id does not outlive its process.
    standing = [each for each in pauses.standing if each.worker is None]
    new = path.with_suffix(".new")
    with usable_name():
        new.write_bytes(_kept.dump_json(standing, exclude_none=True))
        new.replace(path)
