"""The worker: takes a job, executes it, reports, acknowledges."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from comfy_dist.claims import Free, HeldBy, Poisonous, Void, WasCancelled
from comfy_dist.engine import Engine
from comfy_dist.errors import BrokerUnavailable, ComfyDistError
from comfy_dist.messages import (
    AttemptFailed,
    AttemptFailedFact,
    Cancelled,
    EndedFact,
    Released,
    ReleasedFact,
    WorkerState,
)
from comfy_dist.transport import Delivery, Transport
from comfy_dist.worker.arbiter import SECOND_LOOK, Arbiter
from comfy_dist.worker.attempt import Attempt, Ending, failed
from comfy_dist.worker.presence import Identity, Presence
from comfy_dist.worker.progress import ProgressSender
from comfy_dist.workspace import Workspace

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds between tries to start an engine that does not start.
RESTART_SECONDS = 5.0
#: Seconds after which the start of a job is news. A cached prompt has ended by then.
NEWS_SECONDS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How patient a worker is."""

    max_attempts: int = 3
    interrupt_grace: float = 10.0
    #: Seconds a running job may still take when the worker is told to stop; None: all it needs.
    drain_timeout: float | None = None
    second_look: float = SECOND_LOOK


class Worker:
    """One engine's worker; run() serves until drain() is called and the running job has ended."""

    def __init__(
        self,
        identity: Identity,
        transport: Transport,
        engine: Engine,
        workspace: Workspace,
        limits: Limits | None = None,
    ) -> None:
        self.id = identity.id
        self._identity = identity
        self._transport = transport
        self._engine = engine
        self._limits = limits or Limits()
        self._arbiter = Arbiter(
            transport, identity.id, self._limits.max_attempts, second_look=self._limits.second_look
        )
        self._presence = Presence(identity, transport, engine, workspace)
        self._draining = asyncio.Event()
        self._give_back = asyncio.Event()
        self._attempt: Attempt | None = None

    @property
    def state(self) -> WorkerState:
        return WorkerState.DRAINING if self._draining.is_set() else self._presence.state

    @property
    def healthy(self) -> bool:
        """Whether jobs can be taken: connected, and the engine is up."""
        return (
            self._transport.connected and self._engine.running and self._presence.state is not WorkerState.STARTING
        )

    def drain(self) -> None:
        """Take no more; the running job finishes. A second call, or the drain timeout, gives it back."""
        if self._draining.is_set():
            self._give_back.set()
        else:
            log.info("Worker %s stops as soon as its job has ended.", self._identity.name)
        self._draining.set()
        self._presence.drain()

    async def serve(self) -> None:
        """Work until drain() is called and the job in hand has ended.

        Raises BrokerRefused where the broker says no, ComfyDistError where the engine cannot be started.
        """
        try:
            if await self._unless_draining(self._transport.open()):
                await self._run()
        finally:
            await self._transport.close()

    async def _unless_draining(self, start: Coroutine[Any, Any, object]) -> bool:
        """Whether `start` came to its end before drain() was called; cancelled otherwise."""
        starting = asyncio.create_task(start)
        draining = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait([starting, draining], return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
            return starting.done()
        finally:
            for task in (starting, draining):
                task.cancel()
            await asyncio.gather(starting, draining, return_exceptions=True)

    async def _run(self) -> None:
        await self._transport.enlist(self.id)
        background = [
            asyncio.create_task(self._arbiter.run()),
            asyncio.create_task(self._presence.run()),
            asyncio.create_task(self._presence.obey()),
            asyncio.create_task(self._presence.watch_folders()),
            asyncio.create_task(self._watch_connection()),
        ]
        serving = asyncio.create_task(self._serve())
        try:
            done, _ = await asyncio.wait([serving, *background], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (serving, *background):
                task.cancel()
            await asyncio.gather(serving, *background, return_exceptions=True)
            await self._presence.farewell()
            await self._engine.close()

    async def _serve(self) -> None:
        if not await self._unless_draining(self._start()):
            return
        while not self._draining.is_set():
            if not self._engine.running and not await self._restart_engine():
                return
            self._presence.become(WorkerState.IDLE)
            await self._presence.free_if_asked()
            delivery = await self._next()
            if delivery is not None:
                await self._handle(delivery)

    async def _start(self) -> None:
        self._presence.learn(await self._engine.start())
        await self._insist(self._arbiter.catch_up)

    async def _next(self) -> Delivery | None:
        """The next job, or None when something else is to be done first."""
        taking = asyncio.create_task(self._transport.take())
        waits = [
            asyncio.create_task(self._draining.wait()),
            asyncio.create_task(self._presence.free_wanted.wait()),
            asyncio.create_task(self._engine.ended()),
        ]
        try:
            await asyncio.wait([taking, *waits], return_when=asyncio.FIRST_COMPLETED)
            return taking.result() if taking.done() else None
        finally:
            for task in (taking, *waits):
                task.cancel()
            await asyncio.gather(taking, *waits, return_exceptions=True)

    async def _handle(self, delivery: Delivery) -> None:
        job = delivery.job
        match await self._insist(lambda: self._arbiter.claim(job.id)):
            case Free(attempt):
                await self._execute(delivery, attempt)
            case HeldBy(worker):
                log.info("Prompt %s is executed by %s; this delivery is parked.", job.id, worker)
                await self._insist(delivery.park)
            case Void():
                await delivery.acknowledge()
            case WasCancelled(by, started):
                await self._settle(
                    delivery, Cancelled(job_id=job.id, client_id=job.client_id, by=by, started=started)
                )
            case Poisonous(workers):
                names = ", ".join(workers)
                message = (
                    f"The prompt was tried {_times(len(workers))} and given up, for its engine or worker died "
                    f"under it: {names}."
                )
                ending = failed(job, self.id, len(workers), message=message, kind="EngineDied")
                await self._report(ending)
                await self._insist(lambda: delivery.bury(message))

    async def _execute(self, delivery: Delivery, number: int) -> None:
        progress = ProgressSender(self._transport, delivery.job, number)
        attempt = self._attempt = Attempt(
            delivery.job,
            number,
            worker=self.id,
            engine=self._engine,
            device=self._presence.device,
            progress=progress,
            interrupt_grace=self._limits.interrupt_grace,
        )
        self._presence.begin(progress)
        log.info("Prompt %s begins (attempt %d).", delivery.job.id, number)
        began = time.monotonic()
        sending = asyncio.create_task(progress.run())
        is_news: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        telling = asyncio.create_task(self._tell_start(attempt, is_news))
        try:
            ending = await self._attend(attempt)
        finally:
            progress.finish()
            self._attempt = None
        if not is_news.done():
            is_news.set_result(ending is None or isinstance(ending, AttemptFailed))
        await telling
        self._presence.end(ending)
        log.info(
            "Prompt %s %s after %.2f s.",
            delivery.job.id,
            "is given back" if ending is None else ending.type.replace("_", " "),
            time.monotonic() - began,
        )
        match ending:
            case None:
                released = Released(job_id=delivery.job.id, worker=self.id, attempt=number)
                await self._insist(lambda: self._transport.append_event(released))
                released_fact = ReleasedFact(job=delivery.job.id, worker=self.id, attempt=number)
                await self._insist(lambda: self._transport.append_fact(released_fact))
                await delivery.requeue()
            case AttemptFailed():
                await self._retry_or_fail(delivery, ending)
            case _:
                await self._settle(delivery, ending)
        # Beside the end, not before it: a frontend waits for the last message.
        await sending

    async def _tell_start(self, attempt: Attempt, is_news: asyncio.Future[bool]) -> None:
        """Append `started` after a moment, or when and if it is asked for before."""
        started = attempt.started()
        await asyncio.wait([is_news], timeout=NEWS_SECONDS)
        if not is_news.done() or is_news.result():
            await self._insist(lambda: self._transport.append_event(started))

    async def _attend(self, attempt: Attempt) -> Ending | AttemptFailed | None:
        """Execute beside the waits for a cancellation and for the end of patience; None: given back."""
        executing = asyncio.create_task(attempt.execute())
        cancelling = asyncio.create_task(self._interrupt_when_cancelled(attempt))
        giving_back = asyncio.create_task(self._patience())
        try:
            await asyncio.wait([executing, giving_back], return_when=asyncio.FIRST_COMPLETED)
            if not executing.done():
                await self._engine.kill()
                await asyncio.wait([executing])
                executing.exception()
                return None
            return executing.result()
        finally:
            for task in (executing, cancelling, giving_back):
                task.cancel()
            await asyncio.gather(executing, cancelling, giving_back, return_exceptions=True)

    async def _interrupt_when_cancelled(self, attempt: Attempt) -> None:
        await attempt.interrupt(await self._arbiter.cancellation(attempt.job.id))

    async def _patience(self) -> None:
        """Returns when a running job is to be given back."""
        await self._draining.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.drain_timeout):
                await self._give_back.wait()

    async def _retry_or_fail(self, delivery: Delivery, failure: AttemptFailed) -> None:
        log.error("%s", failure.reason)
        job = delivery.job
        fact = AttemptFailedFact(job=job.id, worker=self.id, attempt=failure.attempt)
        await self._insist(lambda: self._transport.append_event(failure))
        await self._insist(lambda: self._transport.append_fact(fact))
        self._arbiter.claims.fold(fact)
        verdict = self._arbiter.claims.verdict(job.id, gone=frozenset(), max_attempts=self._limits.max_attempts)
        if isinstance(verdict, Poisonous):
            message = f"{failure.reason} It was tried {_times(len(verdict.workers))} in all."
            ending = failed(
                job, self.id, len(verdict.workers), message=message, kind="EngineDied", node=failure.node
            )
            await self._report(ending)
            await self._insist(lambda: delivery.bury(message))
        else:
            await delivery.requeue()

    async def _restart_engine(self) -> bool:
        """Until it is up, or drain() is called: whether it is up."""
        self._presence.become(WorkerState.STARTING)
        return await self._unless_draining(self._start_engine())

    async def _start_engine(self) -> None:
        while True:
            try:
                self._presence.learn(await self._engine.start())
            except ComfyDistError as error:
                log.error("The engine does not start: %s Trying again in %g s.", error, RESTART_SECONDS)
                await asyncio.sleep(RESTART_SECONDS)
            else:
                return

    async def _settle(self, delivery: Delivery, ending: Ending) -> None:
        await self._report(ending)
        await delivery.acknowledge()

    async def _report(self, ending: Ending) -> None:
        """The event must be safe before the fact: whoever sees the fact drops the job."""
        await self._insist(lambda: self._transport.append_event(ending))
        await self._insist(lambda: self._transport.append_fact(EndedFact(job=ending.job_id)))

    async def _watch_connection(self) -> None:
        """After a lost connection, say that the attempt in hand goes on, so that it counts against nobody."""
        was_connected = True
        while True:
            await asyncio.sleep(1)
            connected = self._transport.connected
            if connected and not was_connected and (attempt := self._attempt) is not None:
                await self._insist(lambda: self._arbiter.survived(attempt.job.id, attempt.number))
            was_connected = connected

    async def _insist(self, send: Callable[[], Awaitable[T]]) -> T:
        """Until the broker confirms, or until told a second time to stop: then it delivers the job again."""
        while True:
            try:
                return await send()
            except BrokerUnavailable as error:
                if self._give_back.is_set():
                    raise
                log.warning("%s Trying again.", error)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
