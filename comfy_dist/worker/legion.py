"""Legion workflows on the worker that has their prompt.

It looks them up, and executes calls of theirs in processes beside its own engines; to nodes they are calls like
any other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from comfy_dist.calls.errors import LinkRefused
from comfy_dist.calls.legion_configuration import process_of
from comfy_dist.calls.legion_files import machine, workflow_name
from comfy_dist.errors import ComfyDistError
from comfy_dist.files.job_files import JobFiles
from comfy_dist.messages import AttemptFailed, Job
from comfy_dist.transport import Transport
from comfy_dist.worker.attempt import Attempt, Ending, failed, times
from comfy_dist.worker.attempt_calls import AttemptCalls
from comfy_dist.worker.desk import Desk
from comfy_dist.worker.lane import Limits
from comfy_dist.worker.legion_processes import BESIDE, LegionProcess, LegionProcesses
from comfy_dist.worker.presence import Identity
from comfy_dist.worker.progress import ProgressSender
from comfy_dist.worker.splitting import Split
from comfy_dist.worker.telling import call_ended
from comfy_dist.workflows.loading import load_workflow
from comfy_dist.workspace import Workspace

log = logging.getLogger(__name__)


class Legion:
    """One for all lanes of a worker."""

    def __init__(
        self,
        identity: Identity,
        transport: Transport,
        desk: Desk,
        workspace: Workspace,
        processes: LegionProcesses | None,
        limits: Limits,
        files: JobFiles | None,
    ) -> None:
        """`processes` None: this worker starts none."""
        self._identity = identity
        self._transport = transport
        self._desk = desk
        self._workspace = workspace
        self._processes = processes
        self._limits = limits
        self._files = files
        self._tasks: asyncio.TaskGroup | None = None
        desk.answers({"legion_start": self._start, "legion_check": self._check, "legion_workflow": self._workflow})
        desk.executes_beside(self._taken)

    async def run(self) -> None:
        """Own what is executed, until cancelled; `close` then."""
        async with asyncio.TaskGroup() as self._tasks:
            await asyncio.Event().wait()

    async def close(self) -> None:
        """End the processes."""
        if self._processes is not None:
            await self._processes.close()

    # What nodes ask

    async def _start(self, lane: int, arguments: dict[str, Any]) -> dict[str, Any]:
        attempt = self._desk.attempt(lane)
        processes = self._allowed(lane)
        process = process_of(arguments["process"])
        found, _ = await asyncio.to_thread(machine, self._workspace.user, attempt.job.user)
        started = await processes.started(process, attempt, found.ports.max_workers)
        processes.used(started, self._begin)
        return {"target": started.target}

    async def _check(self, lane: int, arguments: dict[str, Any]) -> None:
        self._allowed(lane).check(process_of(arguments["process"]))

    async def _workflow(self, lane: int, arguments: dict[str, Any]) -> dict[str, Any]:
        """The saved workflow of that name, for whoever executes it."""
        job = self._desk.attempt(lane).job
        name, target = str(arguments["workflow"]), arguments.get("target")
        there = self._processes.find(str(target)) if self._processes is not None and target else None
        nodes = await self._desk.nodes(there.lane if there is not None else lane)

        def load() -> tuple[Any, tuple[str, ...]]:
            user = self._workspace.user
            path = workflow_name(user, self._workspace.root, name, job.user)
            return load_workflow(user, path, nodes, "", job.user)

        prompt, targets = await asyncio.to_thread(load)
        return {"prompt": prompt, "targets": list(targets)}

    def _allowed(self, lane: int) -> LegionProcesses:
        if self._processes is None:
            raise LinkRefused("This worker starts no local processes for Legion workflows; use type: cluster.")
        if self._desk.is_beside(lane):
            raise LinkRefused(
                "A workflow that a local process executes can have none started itself, as both would wait; use "
                "type: cluster in it, or call both workflows from one prompt."
            )
        return self._processes

    # Calls

    def _taken(self, target: str, calls: AttemptCalls, job: Job) -> bool:
        """Whether the call is for a process here, which executes it when it is its turn. Raises LinkRefused."""
        if not target.startswith(BESIDE):
            return False
        if (process := self._allowed(calls.lane).find(target)) is None:
            raise LinkRefused(
                "The local process for a Legion workflow was ended to make room for another, or for another "
                "configuration with its port; choose another port, or auto."
            )
        process.users += 1
        self._begin(self._execute(process, calls, job))
        return True

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._tasks is not None
        self._tasks.create_task(work)

    async def _execute(self, process: LegionProcess, calls: AttemptCalls, job: Job) -> None:
        """To its end, or that of whoever waits for it."""
        assert self._processes is not None
        try:
            async with asyncio.TaskGroup() as tasks:
                work = tasks.create_task(self._ended(process, calls, job))
                watch = tasks.create_task(self._stop_when_over(process, calls, job, work))
                await asyncio.wait([work])
                watch.cancel()
        finally:
            process.users -= 1
            self._processes.used(process, self._begin)

    async def _stop_when_over(
        self, process: LegionProcess, calls: AttemptCalls, job: Job, work: asyncio.Task[None]
    ) -> None:
        await calls.waited_for(job.id)
        if process.attempt is not None and process.attempt.job.id == job.id:
            self._desk.interrupted(process.lane)
            await process.attempt.interrupt("the end of what waited for it")
        else:
            work.cancel()

    async def _ended(self, process: LegionProcess, calls: AttemptCalls, job: Job) -> None:
        name = self._identity.name
        try:
            async with process.turn:
                ending = await self._tried(process, calls, job)
        except ComfyDistError as error:
            ending = failed(job, self._identity.id, 1, message=str(error), kind=type(error).__name__)
        except Exception as error:
            # A fault of ours ends this call, not the worker with all that its engines execute.
            log.exception("The call %s met a fault.", job.id)
            message = f"The worker has a fault ({type(error).__name__}: {error}); its log says more."
            ending = failed(job, self._identity.id, 1, message=message, kind=type(error).__name__)
        self._desk.sent.push(calls, calls.end(call_ended(job, ending, name)))

    async def _tried(self, process: LegionProcess, calls: AttemptCalls, job: Job) -> Ending:
        """Once more in a process of its own after a death, as prompts are, and as often."""
        number = 1
        while isinstance(ending := await self._executed(process, calls, job, number), AttemptFailed):
            log.error("%s", ending.reason)
            if number >= self._limits.max_attempts:
                message = f"{ending.reason} It was tried {times(number)} and given up."
                return failed(job, self._identity.id, number, message=message, kind="EngineDied", node=ending.node)
            self._desk.sent.push(calls, calls.gone(job.id))
            number += 1
        return ending

    async def _executed(
        self, process: LegionProcess, calls: AttemptCalls, job: Job, number: int
    ) -> Ending | AttemptFailed:
        await process.start()
        standing = process.standing
        progress = ProgressSender(self._transport, job, number, standing.device)
        self._desk.sent.push(calls, calls.started(job.id, self._identity.id, self._identity.name, number))
        standing.begin(progress)
        with self._desk.serving(process.lane, job, number, progress, beside=calls.lane) as own:
            attempt = process.attempt = Attempt(
                job,
                number,
                worker=self._identity.id,
                engine=standing.engine,
                device=standing.device,
                progress=progress,
                interrupt_grace=self._limits.interrupt_grace,
                files=self._files,
                split=Split(own, standing.catalogue, process.before) if standing.engine.linked else None,
            )
            try:
                ending = await attempt.execute()
            finally:
                process.attempt = None
                progress.finish()
        await progress.sent()
        standing.end(job.prompt, ending)
        await standing.free_if_asked()
        return ending
