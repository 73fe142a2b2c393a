"""May I execute this job? Asks the control stream, whose order decides among rivals."""

from __future__ import annotations

import asyncio
import uuid

from comfy_dist.claims import Claims, Free, HeldBy, Verdict, WasCancelled
from comfy_dist.messages import JoinedFact, StartedFact, SurvivedFact
from comfy_dist.transport import Transport

#: Seconds between two looks at a worker that seems gone: it may just be reconnecting.
SECOND_LOOK = 5.0


class Arbiter:
    """Folds the facts as they come, and claims attempts for one worker."""

    def __init__(
        self, transport: Transport, worker_id: str, max_attempts: int, second_look: float = SECOND_LOOK
    ) -> None:
        self.claims = Claims()
        self._transport = transport
        self._worker = worker_id
        self._max_attempts = max_attempts
        self._second_look = second_look
        self._folded = asyncio.Condition()
        self._reader = uuid.uuid4().hex[:12]

    async def run(self) -> None:
        """Follow the control stream until cancelled."""
        async for fact in self._transport.facts(from_first=True):
            self.claims.fold(fact)
            async with self._folded:
                self._folded.notify_all()

    async def catch_up(self) -> None:
        """Wait until everything that stood in the stream before this call is folded."""
        await self._transport.append_fact(JoinedFact(reader=self._reader))
        async with self._folded:
            await self._folded.wait_for(lambda: self.claims.has_joined(self._reader))

    async def claim(self, job_id: str) -> Verdict:
        """Try for the next attempt of the job.

        Free(n): attempt n is ours, execute it. HeldBy: it goes on elsewhere. The others say why nothing is to be
        executed.
        """
        gone: set[str] = set()
        while True:
            verdict = self.claims.verdict(job_id, gone=frozenset(gone), max_attempts=self._max_attempts)
            match verdict:
                case HeldBy(worker) if worker == self._worker:
                    # We take only while we execute nothing: our claim came through after we gave up waiting.
                    return Free(self.claims.attempts(job_id))
                case HeldBy(worker):
                    if await self._lives(worker):
                        return verdict
                    gone.add(worker)
                case Free(attempt):
                    await self._transport.append_fact(
                        StartedFact(job=job_id, worker=self._worker, attempt=attempt)
                    )
                    async with self._folded:
                        await self._folded.wait_for(lambda: self._decided(job_id, attempt))
                    if (by := self.claims.is_cancelled(job_id)) is not None:
                        return WasCancelled(by, started=attempt > 1)
                    if self.claims.holds(job_id, self._worker, attempt):
                        return verdict
                case _:
                    return verdict

    def _decided(self, job_id: str, attempt: int) -> bool:
        return self.claims.has_ended(job_id) or self.claims.attempts(job_id) >= attempt

    async def _lives(self, worker: str) -> bool:
        if await self._transport.is_alive(worker):
            return True
        await asyncio.sleep(self._second_look)
        return await self._transport.is_alive(worker)

    async def cancellation(self, job_id: str) -> str:
        """Wait until someone cancels the job; who it was."""
        async with self._folded:
            await self._folded.wait_for(lambda: self.claims.is_cancelled(job_id) is not None)
        return self.claims.is_cancelled(job_id) or ""

    async def survived(self, job_id: str, attempt: int) -> None:
        """Say that an attempt others may take for dead goes on."""
        await self._transport.append_fact(SurvivedFact(job=job_id, worker=self._worker, attempt=attempt))
