"""One engine of a worker, and the jobs it executes one after another."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from dataclasses import dataclass

from comfy_dist.claims import Death, Free, HeldBy, Poisonous, Verdict, Void, WasCancelled
from comfy_dist.errors import ComfyDistError
from comfy_dist.files.job_files import JobFiles
from comfy_dist.messages import (
    ANYBODY,
    AttemptFailed,
    AttemptFailedFact,
    Cancelled,
    Event,
    Failed,
    Finished,
    Job,
    Released,
    ReleasedFact,
    Requirements,
    Route,
    WorkerState,
)
from comfy_dist.messages.facts import REASON_CHARACTERS
from comfy_dist.routing import lacks, needs_of
from comfy_dist.transport import Delivery, Transport
from comfy_dist.worker.arbiter import Arbiter
from comfy_dist.worker.attempt import Attempt, Ending, failed, times
from comfy_dist.worker.desk import Desk
from comfy_dist.worker.draining import Draining
from comfy_dist.worker.late_claim import LateClaim
from comfy_dist.worker.news import News
from comfy_dist.worker.pausing import Pausing
from comfy_dist.worker.presence import Identity
from comfy_dist.worker.progress import ProgressSender
from comfy_dist.worker.routes import Routes
from comfy_dist.worker.shown_before import ShownBefore
from comfy_dist.worker.splitting import Split
from comfy_dist.worker.standing import Standing
from comfy_dist.worker.telling import tell

log = logging.getLogger(__name__)

#: Seconds between tries to start an engine that does not start.
RESTART_SECONDS = 5.0
#: Seconds after which the start of a job is news. A cached prompt has ended by then.
NEWS_SECONDS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How patient a worker is with jobs and engines."""

    max_attempts: int = 3
    interrupt_grace: float = 10.0
    #: Exceptions after which an engine is replaced: class names, with or without their module.
    panic_when: tuple[str, ...] = ()


class Lane:
    """Takes a job, executes it, reports, acknowledges; holds at most one."""

    def __init__(
        self,
        number: int,
        identity: Identity,
        standing: Standing,
        transport: Transport,
        arbiter: Arbiter,
        draining: Draining,
        pausing: Pausing,
        routes: Routes,
        limits: Limits,
        desk: Desk,
        files: JobFiles | None = None,
    ) -> None:
        """`number`: its place among the worker's lanes."""
        self._number = number
        self._worker = identity.id
        self._name = identity.name
        self._desk = desk
        self._standing = standing
        self._engine = standing.engine
        self._transport = transport
        self._taker = transport.taker()
        self._routes = routes
        self._arbiter = arbiter
        self._draining = draining
        self._pausing = pausing
        self._insist = draining.insist
        self._limits = limits
        self._files = files
        self._before = ShownBefore()
        self.attempt: Attempt | None = None

    async def start(self) -> None:
        """Start the engine. Raises ComfyDistError where that cannot be."""
        self._standing.models = ()
        self._before.forget()
        self._standing.learn(await self._engine.start())

    async def serve(self) -> None:
        """Work until the worker drains and the job in hand has ended."""
        attention = self._standing.attention
        while not self._draining.begun:
            if not self._engine.running and await self._draining.comes_before(self._restart()):
                return
            ended = asyncio.create_task(self._engine.ended())
            ended.add_done_callback(lambda _: attention.call())
            try:
                while self._engine.running and not self._draining.begun:
                    attention.heed()
                    await self._serve_one()
            finally:
                ended.cancel()
                await asyncio.gather(ended, return_exceptions=True)

    async def _serve_one(self) -> None:
        """The next job, unless something else is to be done first."""
        self._standing.become(WorkerState.IDLE)
        await self._standing.free_if_asked()
        attention = self._standing.attention
        if self._pausing.paused:
            await attention.unless_called(self._pausing.lifted)
            return
        if (offer := self._standing.offer) is not None:
            self._taker.serve(self._routes.served(offer))
        delivery = await attention.unless_called(self._taker.take)
        if delivery is None:
            return
        with self._routes.holding(delivery.route):
            if self._pausing.paused:
                await delivery.requeue()
            else:
                await self._handle(delivery)

    async def _restart(self) -> None:
        self._standing.become(WorkerState.STARTING)
        while True:
            try:
                await self.start()
            except ComfyDistError as error:
                log.error("The engine does not start: %s Trying again in %g s.", error, RESTART_SECONDS)
                await asyncio.sleep(RESTART_SECONDS)
            else:
                return

    async def _handle(self, delivery: Delivery) -> None:
        job = delivery.job
        if self._is_revoked(job) or self._arbiter.is_unwanted(job):
            await delivery.acknowledge()
            if job.call is not None and self._arbiter.claims.knows(job.id):
                # Of such a call nobody else tells the end, and everybody would remember it for ever.
                self._arbiter.ended(job.id)
            return
        if (lacking := self._lacking(job)) is not ANYBODY:
            log.info("Prompt %s asks for what this engine lacks; it is passed on.", job.id)
            asked = delivery.route.requirements.joined(lacking)
            route = Route(urgency=job.urgency, requirements=asked, user=delivery.route.user)
            await self._insist(lambda: delivery.pass_on(route))
            return
        if not self._arbiter.take_in_hand(delivery.job.id):
            await self._park(delivery, self._worker)
            return
        try:
            await self._decide(delivery)
        finally:
            self._arbiter.let_go(delivery.job.id)

    def _is_revoked(self, job: Job) -> bool:
        return self._arbiter.claims.is_revoked(job.id, job.created_at)

    def _lacking(self, job: Job) -> Requirements:
        """What this engine lacks to execute the job. What is over, anyone takes off its queue."""
        offer, claims = self._standing.offer, self._arbiter.claims
        if offer is None or claims.has_ended(job.id) or claims.is_cancelled(job.id) is not None:
            return ANYBODY
        if job.catalogue == offer.catalogue.hash and job.requirements is None:
            return ANYBODY
        return lacks(needs_of(job.prompt, offer.catalogue).joined(job.requirements or ANYBODY), offer)

    async def _park(self, delivery: Delivery, worker: str) -> None:
        log.info("Prompt %s is executed by %s; this delivery is parked.", delivery.job.id, worker)
        await self._insist(delivery.park)

    async def _decide(self, delivery: Delivery) -> None:
        """Execute the job, or do what is to be done instead."""
        job = delivery.job
        helper = job.call is not None and job.call.helper
        # Whoever had it before may be at it without having claimed it.
        least = 2 if helper and delivery.before else 1

        async def claim() -> Verdict:
            return await self._insist(lambda: self._arbiter.claim(job.id, least))

        claims = self._arbiter.claims
        unclaimed = not delivery.before and not claims.knows(job.id) and not claims.has_ended(job.id)
        if helper and unclaimed and self._engine.running:
            lost = functools.partial(self._arbiter.call_off, job.id, "the worker that has claimed it")
            with LateClaim(claim, lost) as late:
                await self._execute(delivery, late.ATTEMPT, late)
        else:
            await self._obey(delivery, await claim())

    async def _obey(self, delivery: Delivery, verdict: Verdict) -> None:
        """Do what the claim has brought."""
        job = delivery.job
        match verdict:
            case Free(attempt) if self._is_revoked(job):
                # The claim came after that, or with it; another submission of the job may stand.
                fact = ReleasedFact(job=job.id, worker=self._worker, attempt=attempt)
                await self._insist(lambda: self._arbiter.give_up(fact))
                await delivery.acknowledge()
            case Free(attempt) if self._pausing.paused or not self._engine.running:
                # The claim came after the pause, or with it; or the engine ended meanwhile, and not by this job.
                await self._release(delivery, attempt)
            case Free(attempt):
                await self._execute(delivery, attempt)
            case HeldBy(worker):
                await self._park(delivery, worker)
            case Void():
                await delivery.acknowledge()
            case WasCancelled(by, started):
                attempt = max(1, self._arbiter.claims.attempts(job.id))
                about = {"client_id": job.client_id, "user": job.user, "attempt": attempt}
                await self._settle(delivery, Cancelled(job_id=job.id, by=by, started=started, **about))
            case Poisonous(deaths):
                await self._bury(delivery, deaths, "Engines or workers die under the prompt.")

    async def _execute(self, delivery: Delivery, number: int, claim: LateClaim | None = None) -> None:
        """`claim`: of what is executed before it is claimed."""
        job = delivery.job
        progress = ProgressSender(self._transport, job, number, self._standing.device)
        self._standing.begin(progress)
        log.info("Prompt %s begins (attempt %d).", job.id, number)
        began = time.monotonic()
        with self._desk.serving(self._number, job, number, progress) as calls:
            attempt = self.attempt = Attempt(
                job,
                number,
                worker=self._worker,
                engine=self._engine,
                device=self._standing.device,
                progress=progress,
                interrupt_grace=self._limits.interrupt_grace,
                files=self._files,
                split=Split(calls, self._standing.catalogue, self._before) if self._engine.linked else None,
                will_call=self._taker.rest,
            )
            start = News(NEWS_SECONDS, lambda: self._tell(job, attempt.started()))
            try:
                ending = await self._attend(attempt, start)
            finally:
                progress.finish()
                self.attempt = None
        if ending is None or isinstance(ending, AttemptFailed):
            start.tell()
        await start.settle()
        if claim is not None and not (isinstance(ending, Finished) and claim.drop()):
            verdict = await claim.verdict()
            if verdict != Free(number):
                log.info("Prompt %s is given up: %s.", job.id, verdict)
                self._standing.end(job.prompt, None)
                await progress.sent()
                await self._obey(delivery, verdict)
                await self._panic_after(ending)
                return
        log.info(
            "Prompt %s %s after %.2f s.",
            delivery.job.id,
            "is given back" if ending is None else ending.type.replace("_", " "),
            time.monotonic() - began,
        )
        match ending:
            case None:
                await self._release(delivery, number)
            case AttemptFailed():
                await self._retry_or_fail(delivery, ending, attempt.death)
            case _:
                await self._settle(delivery, ending)
        self._standing.end(delivery.job.prompt, ending)
        # Beside the end, not before it: a frontend waits for the last message.
        await progress.sent()
        await self._panic_after(ending)

    async def _attend(self, attempt: Attempt, start: News) -> Ending | AttemptFailed | None:
        """Execute; None: given back. What may have to be done meanwhile has no task before it has."""
        beside: list[asyncio.Task[None]] = []
        stopping: list[asyncio.Task[None]] = []

        async def give_back() -> None:
            await self._draining.patience_ends()
            stopping.append(asyncio.create_task(attempt.stop()))

        def interrupt(by: str) -> None:
            # Who cancelled it may take it for waiting.
            start.tell()
            self._desk.interrupted(self._number)
            beside.append(asyncio.create_task(attempt.interrupt(by)))

        try:
            with (
                self._arbiter.calling(attempt.job, interrupt),
                self._draining.calling(lambda: beside.append(asyncio.create_task(give_back()))),
            ):
                ending = await attempt.execute()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            for task in stopping:
                await task
        if isinstance(ending, (Finished, Failed)):
            # In the moment that it was to be given back.
            return ending
        given_back = (
            stopping
            or (self._standing.replaced and isinstance(ending, AttemptFailed))
            or (self._standing.gives_way and isinstance(ending, Cancelled))
        )
        return None if given_back else ending

    async def _release(self, delivery: Delivery, number: int) -> None:
        event = Released(job_id=delivery.job.id, worker=self._worker, attempt=number)
        fact = ReleasedFact(job=delivery.job.id, worker=self._worker, attempt=number)
        await self._tell(delivery.job, event)
        await self._insist(lambda: self._arbiter.give_up(fact))
        await delivery.requeue()

    async def _retry_or_fail(self, delivery: Delivery, failure: AttemptFailed, how: str) -> None:
        log.error("%s", failure.reason)
        job = delivery.job
        fact = AttemptFailedFact(
            job=job.id, worker=self._worker, attempt=failure.attempt, reason=how[:REASON_CHARACTERS]
        )
        await self._tell(job, failure)
        await self._insist(lambda: self._arbiter.give_up(fact))
        verdict = self._arbiter.claims.verdict(job.id, gone=frozenset(), max_attempts=self._limits.max_attempts)
        if isinstance(verdict, Poisonous):
            await self._bury(delivery, verdict.deaths, failure.reason, failure.node)
        else:
            await delivery.requeue()

    async def _bury(
        self, delivery: Delivery, deaths: tuple[Death, ...], reason: str, node: str | None = None
    ) -> None:
        attempts = len(deaths)
        message = f"{reason} It was tried {times(attempts)} and given up: {'; '.join(map(str, deaths))}."
        ending = failed(delivery.job, self._worker, attempts, message=message, kind="EngineDied", node=node)
        if delivery.job.call is not None:
            # After all that the node was told of: there may have been more, which count against nobody.
            last = self._arbiter.claims.attempts(delivery.job.id)
            ending = ending.model_copy(update={"attempt": last + 1})
        await self._report(delivery.job, ending)
        await self._insist(lambda: delivery.bury(message))

    async def _settle(self, delivery: Delivery, ending: Ending) -> None:
        await self._report(delivery.job, ending)
        await delivery.acknowledge()

    async def _report(self, job: Job, ending: Ending) -> None:
        """The event must be safe before anyone is told to drop the job."""
        await self._tell(job, ending)
        if job.call is not None and job.call.helper:
            self._arbiter.ended_unclaimed(job.id)
        else:
            self._arbiter.ended(job.id)

    async def _tell(self, job: Job, event: Event) -> None:
        await self._insist(lambda: tell(self._transport, job, event, self._name))

    async def _panic_after(self, ending: Ending | AttemptFailed | None) -> None:
        """Replace an engine that raised what it is not trusted after."""
        if isinstance(ending, Failed):
            kind = str(ending.error.get("exception_type", ""))
            if {kind, kind.rpartition(".")[2]} & set(self._limits.panic_when):
                log.warning("The engine raised %s and is replaced.", kind)
                await self._engine.kill()
