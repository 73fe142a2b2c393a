"""May I execute this job? Asks the control stream, whose order decides among rivals."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from comfy_dist.claims import Claims, Free, HeldBy, Verdict, WasCancelled
from comfy_dist.errors import BrokerUnavailable
from comfy_dist.messages import (
    AttemptFailedFact,
    CancelledFact,
    EndedFact,
    Fact,
    Job,
    JoinedFact,
    ReleasedFact,
    StartedFact,
    SurvivedFact,
)
from comfy_dist.transport import Transport

#: Seconds between two looks at a worker that seems gone: it may just be reconnecting.
SECOND_LOOK = 5.0
#: Seconds that an end waits for a claim that tells it; then it is told by itself.
TELL_SECONDS = 0.05
#: Calls that ended unclaimed and may yet be cancelled by who does not know it.
MOST_UNCLAIMED = 1000
#: Seconds in which a claim that was confirmed comes back with the facts.
READ_SECONDS = 10.0

log = logging.getLogger(__name__)


class Arbiter:
    """Folds the facts as they come, and claims attempts for one worker."""

    def __init__(
        self,
        transport: Transport,
        worker_id: str,
        max_attempts: int,
        second_look: float = SECOND_LOOK,
        others: Sequence[Callable[[Fact], object]] = (),
    ) -> None:
        """`others`: what else is folded of the same facts, each before anyone learns of it."""
        self.claims = Claims()
        self._others = others
        self._transport = transport
        self._worker = worker_id
        self._max_attempts = max_attempts
        self._second_look = second_look
        #: Who waits for something to be true of what is folded.
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}
        #: What to call when a job is cancelled, or nobody waits for it any more.
        self._calls: dict[str, tuple[Job, Callable[[str], object]]] = {}
        self._reader = uuid.uuid4().hex[:12]
        #: Jobs that ended here and of which the others do not know it yet, in order.
        self._untold: dict[str, None] = {}
        self._has_untold = asyncio.Event()
        self._in_hand: set[str] = set()
        #: Of what ended here and was never claimed: as an ordered set, the latest last.
        self._unclaimed: OrderedDict[str, None] = OrderedDict()

    async def run(self) -> None:
        """Follow the control stream until cancelled."""
        async for fact in self._transport.facts():
            self.claims.fold(fact)
            for fold in self._others:
                fold(fact)
            if isinstance(fact, CancelledFact) and fact.job in self._unclaimed:
                del self._unclaimed[fact.job]
                self.ended(fact.job)
            for waiting, is_so in self._waiting.items():
                if not waiting.done() and is_so():
                    waiting.set_result(None)
            for job, call in list(self._calls.values()):
                if (by := self._called_off(job)) is not None and self._calls.pop(job.id, None) is not None:
                    call(by)

    async def _until(self, is_so: Callable[[], bool]) -> None:
        """Wait until that is true of what is folded."""
        if is_so():
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiting] = is_so
        try:
            await waiting
        finally:
            del self._waiting[waiting]

    def ended(self, job_id: str) -> None:
        """The job's end stands in the event log: later deliveries are void, here at once, elsewhere soon."""
        self.claims.fold(EndedFact(job=job_id))
        self._untold[job_id] = None
        self._has_untold.set()

    def ended_unclaimed(self, job_id: str) -> None:
        """As ended(), of what may never have been claimed: where no fact was told of it, nobody need be told of
        its end, unless somebody cancels it yet."""
        if self.claims.knows(job_id):
            self.ended(job_id)
            return
        self._unclaimed[job_id] = None
        if len(self._unclaimed) > MOST_UNCLAIMED:
            self._unclaimed.popitem(last=False)

    async def tell(self) -> None:
        """Tell the others of the ends that no claim has told, until cancelled."""
        while True:
            await self._has_untold.wait()
            ended = list(self._untold)
            await asyncio.sleep(TELL_SECONDS)
            # What ended meanwhile may be told by a claim yet: a busy worker tells none by itself.
            ended = [job_id for job_id in ended if job_id in self._untold]
            try:
                await self._tell(ended)
            except BrokerUnavailable as error:
                log.debug("Ended jobs are not yet told of: %s", error)

    async def tell_now(self) -> None:
        await self._tell(list(self._untold))

    async def _tell(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            await self._transport.append_fact(EndedFact(job=job_id))
            self._told([job_id])

    def _told(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            self._untold.pop(job_id, None)
        if not self._untold:
            self._has_untold.clear()

    async def catch_up(self) -> None:
        """Wait until everything that stood in the stream before this call is folded."""
        await self._transport.append_fact(JoinedFact(reader=self._reader))
        await self._until(lambda: self.claims.has_joined(self._reader))

    def take_in_hand(self, job_id: str) -> bool:
        """Whether none of this worker's engines has the job; from now on one has, until let_go()."""
        if job_id in self._in_hand:
            return False
        self._in_hand.add(job_id)
        return True

    def let_go(self, job_id: str) -> None:
        self._in_hand.discard(job_id)

    async def claim(self, job_id: str, least: int = 1) -> Verdict:
        """Try for the next attempt of a job that was taken in hand, with at least that number.

        Free(n): attempt n is ours, execute it. HeldBy: it goes on elsewhere. The others say why nothing is to be
        executed. Raises BrokerUnavailable.
        """
        gone: set[str] = set()
        while True:
            verdict = self.claims.verdict(job_id, gone=frozenset(gone), max_attempts=self._max_attempts)
            match verdict:
                case HeldBy(worker) if worker == self._worker:
                    # Nobody executes it here: our claim came through after we gave up waiting.
                    if self.claims.holds(job_id, worker, attempt := self.claims.attempts(job_id)):
                        return Free(attempt)
                    gone.add(worker)
                case HeldBy(worker):
                    if await self._lives(worker):
                        return verdict
                    gone.add(worker)
                case Free(attempt):
                    attempt = max(attempt, least)
                    ended = tuple(self._untold)
                    await self._transport.append_fact(
                        StartedFact(job=job_id, worker=self._worker, attempt=attempt, ended=ended)
                    )
                    self._told(ended)
                    await self._read_back(job_id, attempt)
                    if (by := self.claims.is_cancelled(job_id)) is not None:
                        return WasCancelled(by, started=attempt > 1)
                    if self.claims.holds(job_id, self._worker, attempt):
                        return Free(attempt)
                case _:
                    return verdict

    async def _read_back(self, job_id: str, attempt: int) -> None:
        """Wait for what became of the claim. Raises BrokerUnavailable: who claims again loses nothing by it."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                await self._until(lambda: self._decided(job_id, attempt))
        except TimeoutError:
            raise BrokerUnavailable(
                f"The claim of prompt {job_id} did not come back with the facts within {READ_SECONDS:g} s."
            ) from None

    def _decided(self, job_id: str, attempt: int) -> bool:
        return self.claims.has_ended(job_id) or self.claims.attempts(job_id) >= attempt

    async def _lives(self, worker: str) -> bool:
        if await self._transport.is_alive(worker):
            return True
        await asyncio.sleep(self._second_look)
        return await self._transport.is_alive(worker)

    def is_unwanted(self, job: Job) -> bool:
        """Whether it is a call of an attempt that is over, or of a client's job that is."""
        if (call := job.call) is None:
            return False
        # Calls of calls need not wait until those between them and the job have stopped.
        root_is_over = self.claims.has_ended(call.root) or self.claims.is_cancelled(call.root) is not None
        return root_is_over or self.claims.is_superseded(call.parent, call.attempt)

    def _called_off(self, job: Job) -> str | None:
        by = self.claims.is_cancelled(job.id)
        return "the end of what waited for it" if by is None and self.is_unwanted(job) else by

    @contextmanager
    def calling(self, job: Job, call: Callable[[str], object]) -> Iterator[None]:
        """Meanwhile, `call` is called as soon as someone cancels the job, with who it was."""
        if (by := self._called_off(job)) is not None:
            call(by)
        else:
            self._calls[job.id] = (job, call)
        try:
            yield
        finally:
            self._calls.pop(job.id, None)

    def call_off(self, job_id: str, by: str) -> None:
        """As if `by` had cancelled what is executed here, of which nobody else need know."""
        if (found := self._calls.pop(job_id, None)) is not None:
            _job, call = found
            call(by)

    async def give_up(self, fact: AttemptFailedFact | ReleasedFact) -> None:
        """Say that our attempt is over and the job is not. Known here at once: we may get it again in a moment."""
        await self._transport.append_fact(fact)
        self.claims.fold(fact)

    async def survived(self, job_id: str, attempt: int) -> None:
        """Say that an attempt others may take for dead goes on."""
        await self._transport.append_fact(SurvivedFact(job=job_id, worker=self._worker, attempt=attempt))
