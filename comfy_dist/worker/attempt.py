"""One attempt at a job: from the claim to its end in the event log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, TypeAlias

from comfy_dist.calls.errors import RegionError
from comfy_dist.engine import (
    NOT_OF_CALLS,
    Engine,
    EngineDied,
    EngineEvent,
    Errored,
    Executed,
    Interrupted,
    NodeText,
    Outcome,
    Preview,
)
from comfy_dist.files.job_files import JobFiles, NotSupplied
from comfy_dist.messages import (
    AttemptFailed,
    Cancelled,
    Failed,
    Finished,
    Job,
    Prompt,
    Started,
    now_ms,
)
from comfy_dist.worker.progress import ProgressSender
from comfy_dist.worker.splitting import Split

log = logging.getLogger(__name__)

Ending: TypeAlias = Finished | Failed | Cancelled


class Attempt:
    """Executes the job in the engine while listening for its cancellation."""

    def __init__(
        self,
        job: Job,
        number: int,
        *,
        worker: str,
        engine: Engine,
        device: str,
        progress: ProgressSender,
        interrupt_grace: float,
        files: JobFiles | None = None,
        split: Split | None = None,
        will_call: Callable[[], object] | None = None,
    ) -> None:
        """`split`: where its nodes can send calls; `will_call` is told if they are likely to."""
        self.job = job
        self.number = number
        self._worker = worker
        self._engine = engine
        self._device = device
        self._progress = progress
        self._grace = interrupt_grace
        self._files = files
        self._split = split
        self._will_call = will_call
        self._report = files.report(job) if files is not None else None
        #: While its files are brought here.
        self._supplying: asyncio.Task[Prompt] | None = None
        self._stopped = False
        self._cancelled_by: str | None = None
        #: How the engine died under it, in a few words.
        self.death = ""

    def started(self) -> Started:
        return Started(
            job_id=self.job.id,
            client_id=self.job.client_id,
            user=self.job.user,
            worker=self._worker,
            engine=self._engine.name,
            device=self._device,
            attempt=self.number,
        )

    async def execute(self) -> Ending | AttemptFailed:
        """The event that tells how it ended."""
        try:
            async with contextlib.AsyncExitStack() as stack:
                job = await self._supplied(stack)
                if job is None or self._cancelled_by is not None:
                    return self._cancelled(None)
                if self._split is not None:
                    job = self._split.planned(job)
                    if self._will_call is not None and self._split.has_regions:
                        self._will_call()
                outcome = await self._engine.execute(job, self._emit, attempt=self.number)
        except RegionError as error:
            return failed(
                self.job, self._worker, self.number, message=str(error), kind="RegionError", node=error.node_id
            )
        except NotSupplied as error:
            return failed(self.job, self._worker, self.number, message=str(error), kind="FileNotSupplied")
        except EngineDied as death:
            return self._of_death(death)
        except Exception as error:
            # A fault of ours ends this attempt, not the worker with all that its other engines execute.
            log.exception("Prompt %s met a fault in engine %s.", self.job.id, self._engine.name)
            fault = f"{type(error).__name__}: {error}"
            return self._of_death(
                EngineDied(f"Engine {self._engine.name} has a fault ({fault}); the worker's log says more.")
            )
        return self._of_outcome(outcome)

    async def _supplied(self, stack: contextlib.AsyncExitStack) -> Job | None:
        """The job with its files here, until the stack is left; None where it was cancelled meanwhile."""
        if self._files is None or not self.job.files:
            return self.job
        supplied = self._files.supplied(self.job.prompt, self.job.files, self.job.folders)
        self._supplying = asyncio.ensure_future(stack.enter_async_context(supplied))
        try:
            return self.job.model_copy(update={"prompt": await self._supplying})
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            return None
        finally:
            self._supplying = None

    def _emit(self, event: EngineEvent | Preview | NodeText) -> None:
        if isinstance(event, EngineEvent) and event.event in NOT_OF_CALLS and self.job.call is not None:
            return
        if self._split is not None and isinstance(event, EngineEvent):
            event = self._split.event(event)
        if self._report is not None and isinstance(event, EngineEvent) and event.event == "executed":
            output = event.data.get("output")
            if (shown := self._report.shown(output)) is not output:
                event = EngineEvent(event.event, event.data | {"output": shown})
        self._progress.emit(event)

    async def interrupt(self, by: str) -> None:
        """Stop it, at the latest after the grace time by replacing the engine's process."""
        self._cancelled_by = by
        if self._supplying is not None:
            await self.stop()
            return
        await self._engine.interrupt(self.job.id)
        await asyncio.sleep(self._grace)
        log.warning(
            "Prompt %s did not stop within %g s of its interruption; its engine is replaced.",
            self.job.id,
            self._grace,
        )
        await self._engine.kill()

    async def stop(self) -> None:
        """End it now, be it by ending the engine's process."""
        self._stopped = True
        if self._supplying is not None:
            self._supplying.cancel()
        else:
            await self._engine.kill()

    def _of_outcome(self, outcome: Outcome) -> Ending:
        outputs, meta, messages, home = outcome.outputs, outcome.meta, outcome.messages, ""
        if self._report is not None:
            outputs, home = self._report.shown(outputs), self._report.home
            self._report.ended(outputs)
        if self._split is not None:
            outputs, meta, again = self._split.outputs(outputs, meta, messages)
            for event in again:
                self._progress.emit(event)
            messages = self._split.messages(messages)
        common: dict[str, Any] = {
            "job_id": self.job.id,
            "worker": self._worker,
            "client_id": self.job.client_id,
            "user": self.job.user,
            "started_at": self._progress.current.started_at,
            "outputs": outputs,
            "home": home,
            "meta": meta,
            "messages": messages,
            "timings": outcome.timings,
            "spans": (
                *self._progress.nodes.end(now_ms()),
                *(self._split.calls.spans() if self._split is not None else ()),
            ),
            "last_sequence": self._progress.last,
            "trail": self._progress.take_trail(),
            "attempt": self.number,
        }
        match outcome:
            case Executed():
                return Finished(**common)
            case Errored(error=error):
                error = self._split.error(error) if self._split is not None else error
                return Failed(**common, error=error, attempts=self.number)
            case Interrupted():
                return Cancelled(**common, by=self._cancelled_by or "", started=True)

    def _of_death(self, death: EngineDied) -> Cancelled | AttemptFailed:
        self.death = death.how or "ended"
        if death.node is not None:
            self.death += f" at node {death.node}"
        if self._cancelled_by is None:
            return AttemptFailed(
                job_id=self.job.id,
                worker=self._worker,
                attempt=self.number,
                node=death.node,
                reason=str(death),
            )
        return self._cancelled(death.node)

    def _cancelled(self, node: str | None) -> Cancelled:
        """The end of an attempt whose engine could not say so."""
        interrupted: dict[str, Any] = {
            "prompt_id": self.job.id,
            "node_id": node,
            "node_type": self._class_of(node),
            "executed": [],
            "timestamp": now_ms(),
        }
        return Cancelled(
            job_id=self.job.id,
            worker=self._worker,
            client_id=self.job.client_id,
            user=self.job.user,
            started_at=self._progress.current.started_at,
            messages=(("execution_interrupted", interrupted),),
            last_sequence=self._progress.last,
            attempt=self.number,
            by=self._cancelled_by or "",
            started=True,
        )

    def _class_of(self, node: str | None) -> str | None:
        entry = self.job.prompt.get(node) if node is not None else None
        return entry.get("class_type") if isinstance(entry, dict) else None


def failed(
    job: Job,
    worker: str,
    attempts: int,
    *,
    message: str,
    kind: str,
    node: str | None = None,
) -> Failed:
    """A failure that no node raised, in the shape of ComfyUI's execution_error."""
    entry = job.prompt.get(node) if node is not None else None
    error: dict[str, Any] = {
        "prompt_id": job.id,
        "node_id": node,
        "node_type": entry.get("class_type") if isinstance(entry, dict) else None,
        "executed": [],
        "exception_message": message,
        "exception_type": kind,
        "traceback": [],
        "current_inputs": {},
        "current_outputs": [],
        "timestamp": now_ms(),
    }
    return Failed(
        job_id=job.id,
        client_id=job.client_id,
        user=job.user,
        worker=worker,
        error=error,
        attempts=attempts,
        attempt=attempts,
        messages=(("execution_error", error),),
    )


def times(attempts: int) -> str:
    """In words."""
    return "once" if attempts == 1 else f"{attempts} times"
