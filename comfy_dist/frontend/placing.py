"""Where a job waits, and who is asked first: what it needs against what the live workers have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfy_dist.frontend.answers import Refused
from comfy_dist.frontend.context import Context
from comfy_dist.input_judging import make_error
from comfy_dist.messages import ANYBODY, Announcement, Catalogue, Job, Requirements, Route
from comfy_dist.routing import Offer, lacks, models_of, needs_of, with_choices

#: Of what a route asks for: every worker is told of it, and every one that starts later.
MOST_BYTES = 65536
#: Lines of a refusal at most.
_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is found out before a job is accepted."""

    #: Everything it asks of a worker.
    asked: Requirements
    able: tuple[Announcement, ...]
    #: What some live worker lacks: only who has it takes the job.
    missing: Requirements
    #: Hash of every live worker's catalogue; "": they differ.
    catalogue: str = ""
    #: Where no live worker has everything: who has what.
    nobody: tuple[str, ...] = ()


def place(ctx: Context, job: Job, catalogue: Catalogue) -> Place:
    """Who can run it. With no live worker at all everything waits for the first one. Raises Refused."""
    common = ctx.registry.common
    if common is not None and job.requirements is None and not ctx.settings.hold_unroutable:
        # One is like the other, and what they cannot execute is not valid.
        asked = needs_of(job.prompt, common) if common.models else ANYBODY
        return Place(asked=asked, able=ctx.registry.live, missing=ANYBODY, catalogue=common.hash)
    asked = needs_of(job.prompt, catalogue).joined(job.requirements or ANYBODY)
    found = ctx.registry.place(asked)
    if not found.known:
        return Place(asked=asked, able=(), missing=job.requirements or ANYBODY)
    if (size := len(found.missing.to_bytes())) > MOST_BYTES:
        raise Refused(
            400,
            f"The names of what this prompt asks of a worker have {size} bytes; {MOST_BYTES} are allowed.",
            kind="invalid_requirements",
        )
    nobody = () if found.able else tuple(ctx.registry.who_has_what(asked))
    return Place(asked=asked, able=found.able, missing=found.missing, nobody=nobody)


def unroutable(place: Place) -> dict[str, Any]:
    """ComfyUI's error for a prompt that no live worker can run."""
    lines = list(place.nobody)
    if len(lines) > _LINES:
        lines[_LINES:] = [f"and {len(lines) - _LINES} more"]
    message = "No live worker has everything that this prompt asks for."
    return make_error("no_able_worker", message, "\n".join(lines))


def held_catalogue(place: Place, catalogue: Catalogue) -> Catalogue | None:
    """What to judge a prompt by that is to wait for a worker that has what nobody has now; None: nothing can."""
    offer = Offer(worker="", catalogue=catalogue)
    lacking = lacks(Requirements(nodes=place.asked.nodes, choices=place.asked.choices), offer)
    return None if lacking.nodes else with_choices(catalogue, lacking.choices)


async def send(ctx: Context, job: Job, place: Place) -> None:
    """Put the job on its queue. Raises BrokerUnavailable."""
    route = Route(urgency=job.urgency, requirements=place.missing, user=job.user if ctx.settings.fair else None)
    models = models_of(place.asked, catalogue) if (catalogue := ctx.registry.catalogue) else ()
    worker = ctx.affinity.choose(job.id, models, place.able, lambda: ctx.ledger.waiting)
    if worker is None:
        await ctx.transport.submit(job, route)
    else:
        await ctx.transport.offer(job, route, worker)
