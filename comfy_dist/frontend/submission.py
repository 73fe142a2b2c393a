"""From the body of POST /prompt to a job on the queue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from comfy_dist.errors import BrokerUnavailable
from comfy_dist.files.inputs import offering
from comfy_dist.frontend.answers import Refused
from comfy_dist.frontend.context import Context
from comfy_dist.frontend.given_ids import Claim
from comfy_dist.frontend.identity import Identity
from comfy_dist.frontend.job_request import job_of, targets_of
from comfy_dist.frontend.placing import Place, held_catalogue, place, send, unroutable
from comfy_dist.ledger import JobState
from comfy_dist.messages import (
    Catalogue,
    Command,
    Event,
    Job,
    Prompt,
    Resubmitted,
    Revoked,
    Submitted,
)
from comfy_dist.validation import Validation, validate_prompt

log = logging.getLogger(__name__)

#: Seconds a live worker has to judge inputs that only code can judge.
VALIDATE_SECONDS = 2.0
#: Seconds a prompt waits for what the first worker can run.
CATALOGUE_SECONDS = 5.0
#: Prompts above this many nodes are checked off the event loop.
LARGE = 500


class Invalid(Refused):
    """A prompt that does not pass validation; carries ComfyUI's answer."""

    def __init__(self, verdict: Validation) -> None:
        self.error = verdict.error or {}
        self.node_errors = verdict.node_errors
        super().__init__(400, str(self.error.get("message", "")), kind="invalid_prompt")

    @property
    def body(self) -> dict[str, Any]:
        return {"error": self.error, "node_errors": self.node_errors}


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the answer says."""

    prompt_id: str
    number: float
    #: Of what is left out of the prompt.
    node_errors: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        whole = int(self.number) if self.number == int(self.number) else self.number
        return {"prompt_id": self.prompt_id, "number": whole, "node_errors": self.node_errors}


@dataclass(frozen=True, slots=True)
class _Earlier:
    """What was submitted before under the same id."""

    number: float
    prompt: Prompt
    #: Whether nobody has begun it. Where the broker did not confirm it, its frontend may yet revoke it: submitted
    #: again, it stands.
    waits: bool


@dataclass(frozen=True, slots=True)
class _Checked:
    """A job that is valid."""

    job: Job
    place: Place
    node_errors: dict[str, Any]


async def submit(ctx: Context, request: dict[str, Any], who: Identity) -> Accepted:
    """Check, record, publish.

    When it returns, the job will end in the history of every frontend. Raises Refused.
    """
    job = job_of(request, who.user, ctx.id, ctx.settings, ctx.config.now.spread)
    if not request.get("prompt_id"):
        return await _submit(ctx, request, job, who, None)
    async with ctx.given_ids.claim(job.id) as claim:
        return await _submit(ctx, request, job, who, claim)


async def submit_all(ctx: Context, requests: Sequence[dict[str, Any]], who: Identity) -> list[Accepted]:
    """The same for several, none of which has a prompt_id: all of them are accepted, or none where one is refused.

    Raises BrokerUnavailable where the broker did not take all, saying how many will run.
    """
    jobs = [job_of(request, who.user, ctx.id, ctx.settings, ctx.config.now.spread) for request in requests]
    with ctx.room.seat(ctx.ledger, ctx.settings.max_queue_size, len(jobs)):
        checked = [await _checked(ctx, job, request) for job, request in zip(jobs, requests, strict=True)]
        await _put_all(ctx, [each.job for each in checked])
        publishing = (_publish(ctx, each.job, each.place, Submitted.of(each.job)) for each in checked)
        ends = await asyncio.gather(*publishing, return_exceptions=True)
    if failed := [end for end in ends if end is not None]:
        if len(failed) == len(ends) or not isinstance(failed[0], BrokerUnavailable):
            raise failed[0]
        well = len(ends) - len(failed)
        raise BrokerUnavailable(f"{well} of {len(ends)} prompts will run, the others not. {failed[0]}")
    return [Accepted(each.job.id, each.job.number, each.node_errors) for each in checked]


async def _put_all(ctx: Context, jobs: Sequence[Job]) -> None:
    outbox = ctx.ledger.outbox
    ends = await asyncio.gather(*map(outbox.put, jobs), return_exceptions=True)
    for error in filter(None, ends):
        for job in jobs:
            outbox.remove(job.id)
        raise error


async def _submit(ctx: Context, request: dict[str, Any], job: Job, who: Identity, claim: Claim | None) -> Accepted:
    """With a claim the id is the client's, so there may be something under it."""
    earlier = await _submitted_before(ctx, job.id, who) if claim is not None else None
    if earlier is not None and earlier.prompt == job.prompt and not earlier.waits:
        return Accepted(job.id, earlier.number, {})
    with ctx.room.seat(ctx.ledger, ctx.settings.max_queue_size) if earlier is None else nullcontext():
        checked = await _checked(ctx, job, request)
        job, number = checked.job, None
        if earlier is not None:
            # Validation has cast the values in place, as it did with the earlier one's.
            number = _same(job, earlier)
            if not earlier.waits:
                return Accepted(job.id, number, {})
        # First, for where there is no space for it nothing is to be waited for.
        await ctx.ledger.outbox.put(job)
        if claim is not None and earlier is None:
            number = await _first(ctx, job, claim, who)
    news: Event | None = None if claim is not None else Submitted.of(job)
    if number is not None:
        job = job.model_copy(update={"number": number})
        news = Resubmitted(job_id=job.id, at=job.created_at)
    await _publish(ctx, job, checked.place, news)
    return Accepted(job.id, job.number, checked.node_errors)


async def _checked(ctx: Context, job: Job, request: dict[str, Any]) -> _Checked:
    """Raises Invalid."""
    try:
        return await _checked_now(ctx, job, request)
    except Invalid:
        # Nobody has what it needs, as far as is known yet.
        if not await _more_is_known(ctx):
            raise
    return await _checked_now(ctx, job, request)


async def _checked_now(ctx: Context, job: Job, request: dict[str, Any]) -> _Checked:
    """Raises Invalid."""
    catalogue = await known_catalogue(ctx)
    job, catalogue = await _with_files(ctx, job, catalogue)
    found = place(ctx, job, catalogue)
    verdict = await _judge(ctx, job, targets_of(request), catalogue, found)
    if not verdict.valid:
        raise Invalid(verdict)
    job = job.model_copy(update={"catalogue": found.catalogue, "outputs_to_execute": verdict.outputs})
    return _Checked(job, found, verdict.node_errors)


async def _with_files(ctx: Context, job: Job, catalogue: Catalogue) -> tuple[Job, Catalogue]:
    """The job with the files that its prompt names, and the catalogue offering them.

    A worker is given what it lacks of them.
    """
    if ctx.files is None:
        return job, catalogue
    files = await ctx.files.inputs(job.prompt, catalogue.nodes)
    job = job.model_copy(update={"files": tuple(files.values()), "folders": ctx.files.folders})
    if files:
        catalogue = catalogue.model_copy(update={"nodes": offering(catalogue.nodes, job.prompt, files)})
    return job, catalogue


async def _submitted_before(ctx: Context, job_id: str, who: Identity) -> _Earlier | None:
    """The prompt that was given under this id: given again it is one job, another under that id is refused."""
    await ctx.ledger.settled()
    row = await ctx.ledger.find(job_id)
    if row is not None:
        _check_seen(job_id, row.user, who)
    if row is None or row.void:
        return None
    submission = await ctx.ledger.submission(job_id)
    if submission is not None:
        number, _, prompt, *_ = submission
        return _Earlier(float(number), prompt, waits=row.state is JobState.PENDING and not row.workers)
    if row.state.ended:
        # Workers drop what has ended, so it would never run.
        raise _in_use(
            f"The prompt_id {job_id} belongs to a prompt that was deleted from the history; use another."
        )
    return None


def _check_seen(job_id: str, user: str | None, who: Identity) -> None:
    if not who.sees(user):
        raise _in_use(f"The prompt_id {job_id} is taken; use another.")


def _same(job: Job, earlier: _Earlier) -> float:
    """The number of the job that it is. Raises Refused where it is another."""
    if earlier.prompt != job.prompt:
        raise _in_use(f"The prompt_id {job.id} belongs to another prompt.")
    return earlier.number


def _in_use(sentence: str) -> Refused:
    return Refused(409, sentence, kind="prompt_id_in_use")


async def _first(ctx: Context, job: Job, claim: Claim, who: Identity) -> float | None:
    """The number of what came first under this id, where that is not this submission: the log's order decides, the
    same everywhere. Raises Refused where it is another prompt.

    Before the job is on a queue, for what is executed must be what the history shows.
    """
    try:
        first = await claim.record(job, ctx.transport)
    except BrokerUnavailable as error:
        raise await _not_accepted(ctx, job, error, arrived=error.sent) from error
    if (first.frontend, first.at) == (job.frontend, job.created_at):
        return None
    try:
        _check_seen(job.id, first.user, who)
        return _same(job, _Earlier(first.number, first.prompt, waits=True))
    except Refused:
        ctx.ledger.outbox.remove(job.id)
        raise


async def _not_accepted(ctx: Context, job: Job, error: BrokerUnavailable, *, arrived: bool) -> BrokerUnavailable:
    """What to answer without a confirmation. Where something may have arrived it is revoked and will not run."""
    await ctx.ledger.outbox.revoke(job)
    ctx.ledger.forget(job.id)
    if arrived:
        ctx.revoked.put_nowait(Revoked(job_id=job.id, submitted_at=job.created_at))
    else:
        ctx.ledger.outbox.remove(job.id)
    return BrokerUnavailable(f"The prompt will not run. {error}")


async def _publish(ctx: Context, job: Job, found: Place, news: Event | None) -> None:
    """`news`: None where the log has it already."""
    try:
        if news is None:
            await send(ctx, job, found)
        else:
            if isinstance(news, Submitted):
                ctx.ledger.expect(job.id)
            # Both at once: the ledger's fold does not mind which of `submitted` and `started` comes first.
            telling = asyncio.ensure_future(_tell(ctx, news))
            try:
                await send(ctx, job, found)
                await telling
            except BaseException:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)
                raise
    except BrokerUnavailable as error:
        raise await _not_accepted(ctx, job, error, arrived=True) from error
    if ctx.transport.durable:
        ctx.ledger.outbox.remove(job.id)


async def _tell(ctx: Context, news: Event) -> None:
    # The job has left when this goes on: somebody waits for its end, and nobody for the news of it.
    await asyncio.sleep(0)
    await ctx.transport.append_event(news)


async def known_catalogue(ctx: Context) -> Catalogue:
    """What all live workers can run together. Raises Refused where that was never known."""
    if ctx.registry.catalogue is None and any(worker.catalogue for worker in ctx.registry.live):
        # A worker has just shown up, and is being asked for it.
        with suppress(TimeoutError):
            async with asyncio.timeout(CATALOGUE_SECONDS):
                await ctx.catalogue_known.wait()
    if (catalogue := ctx.registry.catalogue) is None:
        raise Refused(
            503,
            "No worker has shown up yet, so it is not known which nodes there are. "
            "Start one with comfyui-worker, or wait until it is up.",
            kind="no_workers",
        )
    return catalogue


async def _more_is_known(ctx: Context) -> bool:
    """Wait for live workers' catalogues that are being asked for; whether there were any."""

    def strangers() -> set[str]:
        announced = {worker.catalogue for worker in ctx.registry.live if worker.catalogue}
        return {hash_ for hash_ in announced if not ctx.registry.knows(hash_)}

    if not strangers():
        return False
    with suppress(TimeoutError):
        async with asyncio.timeout(CATALOGUE_SECONDS), ctx.learned:
            await ctx.learned.wait_for(lambda: not strangers())
    return True


async def _judge(
    ctx: Context, job: Job, targets: tuple[str, ...] | None, catalogue: Catalogue, found: Place
) -> Validation:
    """What can be told of the prompt now.

    That is what the catalogue tells and, for classes that validate by code, what the engine of an able worker
    says. Where none answers in time, or the prompt is held for a worker with other nodes, it is accepted: its
    engine validates before it starts.
    """
    prompt = job.prompt
    held = bool(found.nobody) and ctx.settings.hold_unroutable
    judged_by = held_catalogue(found, catalogue) if held else catalogue
    if judged_by is None:
        return Validation(valid=True, outputs=targets or ())

    def judge() -> Validation:
        return validate_prompt(
            prompt, judged_by.nodes, targets=targets, validated_by_code=judged_by.validated_by_code
        )

    verdict = await asyncio.to_thread(judge) if len(prompt) > LARGE else judge()
    if not verdict.valid or held:
        return verdict
    if found.nobody:
        return Validation(valid=False, error=unroutable(found))
    if not found.able or not _needs_code(prompt, catalogue):
        return verdict
    files = [file.model_dump(mode="json") for file in job.files]
    arguments = {"prompt": prompt, "targets": targets, "files": files, "folders": job.folders}
    command = Command(verb="validate", worker=found.able[0].id, arguments=arguments)
    reply = await ctx.transport.ask(command, VALIDATE_SECONDS)
    if reply is None or ("error" in reply.result and "valid" not in reply.result):
        return verdict
    return Validation.model_validate(reply.result)


def _needs_code(prompt: Prompt, catalogue: Catalogue) -> bool:
    return any(
        isinstance(node, dict) and node.get("class_type") in catalogue.validated_by_code
        for node in prompt.values()
    )
