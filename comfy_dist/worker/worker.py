"""The worker: its engines, each with a lane of jobs, and what they share on the transport."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from comfy_dist.engine import Engine
from comfy_dist.files.job_files import JobFiles
from comfy_dist.messages import WorkerState
from comfy_dist.transport import ReceivedCommand, Transport
from comfy_dist.worker.arbiter import SECOND_LOOK, Arbiter
from comfy_dist.worker.commands import Commands
from comfy_dist.worker.desk import Desk
from comfy_dist.worker.draining import Draining
from comfy_dist.worker.lane import Lane, Limits
from comfy_dist.worker.legion import Legion
from comfy_dist.worker.legion_processes import IDLE_SECONDS, LegionProcesses, MakeEngine
from comfy_dist.worker.log_lines import LogLines
from comfy_dist.worker.pausing import SAY_AGAIN_SECONDS, Pausing
from comfy_dist.worker.plane_place import PlanePlace
from comfy_dist.worker.presence import Identity, Presence
from comfy_dist.worker.routes import REVIEW_SECONDS, Routes
from comfy_dist.worker.standing import Standing
from comfy_dist.workspace import Workspace

log = logging.getLogger(__name__)

#: Seconds after which a task that has not heeded its cancellation is cancelled again.
CANCEL_SECONDS = 1.0


class Worker:
    """One participant with one or more engines; serve() works until drain() and the end of the jobs in hand."""

    def __init__(
        self,
        identity: Identity,
        transport: Transport,
        engines: Sequence[Engine],
        workspace: Workspace,
        limits: Limits | None = None,
        *,
        drain_timeout: float | None = None,
        second_look: float = SECOND_LOOK,
        retention: float = math.inf,
        files: JobFiles | None = None,
        plane: PlanePlace = PlanePlace(),  # noqa: B008 - frozen
        call_timeout: float | None = None,
        legion_engine: MakeEngine | None = None,
        legion_idle: float = IDLE_SECONDS,
    ) -> None:
        """`drain_timeout`: seconds a job may still take when the worker is told to stop; None: all it needs.

        `retention`: seconds for which the control stream keeps a fact. `files`: the exchange of files with
        machines that do not share the workspace; None: every frontend does. `plane`: where engines' processes
        listen for those of other workers. `call_timeout`: seconds that another worker may take for one call.
        `legion_engine`: makes the engines that Legion workflows have started beside its own; None: there are
        none. One that nobody uses for `legion_idle` seconds ends.
        """
        limits = limits or Limits()
        self._files = files
        self.id = identity.id
        self._identity = identity
        self._transport = transport
        changed = asyncio.Event()
        # What stands is said again well before the stream forgets it.
        say_again, review = min(SAY_AGAIN_SECONDS, retention / 4), min(REVIEW_SECONDS, retention / 4)
        self._pausing = Pausing(transport, identity.id, identity.name, self._call, say_again)
        self._routes = Routes(transport, self._call, review)
        self._standings = [Standing(engine, changed, identity.name, identity.tags) for engine in engines]
        others = [self._pausing.fold, self._routes.fold, lambda fact: self._desk.sent.fold(fact)]
        self._arbiter = Arbiter(transport, identity.id, limits.max_attempts, second_look, others)
        self._desk: Desk = Desk(
            identity, transport, self._arbiter, self._standings, workspace, plane, call_timeout
        )
        processes = None
        if legion_engine is not None:
            processes = LegionProcesses(self._desk, legion_engine, legion_idle, changed)
        self._legion = Legion(identity, transport, self._desk, workspace, processes, limits, files)
        self._draining = Draining(drain_timeout)
        self._log_lines = LogLines()
        self._presence = Presence(
            identity, transport, self._standings, self._draining, self._pausing, workspace, changed, files
        )
        self._commands = Commands(
            identity,
            transport,
            self._standings,
            self._draining,
            self._presence,
            self._log_lines,
            self._desk,
            files,
        )
        self._lanes = [
            Lane(
                number,
                identity,
                standing,
                transport,
                self._arbiter,
                self._draining,
                self._pausing,
                self._routes,
                limits,
                self._desk,
                files,
            )
            for number, standing in enumerate(self._standings)
        ]

    @property
    def state(self) -> WorkerState:
        return self._presence.state

    @property
    def healthy(self) -> bool:
        """Whether jobs can be taken: connected, and an engine is up."""
        return self._transport.connected and any(
            standing.engine.running and standing.state is not WorkerState.STARTING for standing in self._standings
        )

    @property
    def unreadable(self) -> Mapping[str, int]:
        """Messages that came and could not be read, by place."""
        return self._transport.unreadable.counts

    def drain(self) -> None:
        """Take no more; the running jobs finish. A second call, or the drain timeout, gives them back."""
        if not self._draining.begun:
            log.info("Worker %s stops as soon as its jobs have ended.", self._identity.name)
        self._draining.tell()
        self._call()

    def _call(self) -> None:
        """Something has changed that the lanes and the others are to know."""
        for standing in self._standings:
            standing.attention.call()
        self._presence.changed.set()

    async def serve(self) -> None:
        """Work until drain() is called and the jobs in hand have ended.

        Raises BrokerRefused where the broker says no, ComfyDistError where an engine cannot be started.
        """
        try:
            with self._log_lines.kept():
                if not await self._draining.comes_before(self._transport.open()):
                    await self._run()
        finally:
            await self._transport.close()

    async def _run(self) -> None:
        await self._transport.enlist(self.id)
        # Who sees this worker announced can ask it things.
        async with self._desk.open(), self._transport.commands() as commands:
            await self._work(commands)

    async def _work(self, commands: AsyncIterator[ReceivedCommand]) -> None:
        background = [
            asyncio.create_task(self._arbiter.run()),
            asyncio.create_task(self._arbiter.tell()),
            asyncio.create_task(self._pausing.keep()),
            asyncio.create_task(self._routes.keep()),
            asyncio.create_task(self._presence.run()),
            asyncio.create_task(self._commands.obey(commands)),
            asyncio.create_task(self._desk.run()),
            asyncio.create_task(self._legion.run()),
            asyncio.create_task(self._presence.watch_folders()),
            asyncio.create_task(self._watch_connection()),
        ]
        serving = asyncio.create_task(self._serve())
        try:
            done, _ = await asyncio.wait([serving, *background], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await _end([serving, *background])
            await self._presence.farewell()
            if self._files is not None:
                await self._files.close()
            engines = (standing.engine.close() for standing in self._standings)
            await asyncio.gather(self._legion.close(), *engines)

    async def _serve(self) -> None:
        if await self._draining.comes_before(self._start()):
            return
        await _together(lane.serve() for lane in self._lanes)
        await self._draining.insist(self._arbiter.tell_now)
        if self._files is not None:
            await self._draining.unless_impatient(self._files.handed_over())

    async def _start(self) -> None:
        if self._files is not None:
            await self._files.sweep()
        await _together(lane.start() for lane in self._lanes)
        await self._draining.insist(self._arbiter.catch_up)

    async def _watch_connection(self) -> None:
        """After a lost connection, say that the attempts in hand go on, so that they count against nobody."""
        was_connected = True
        while True:
            await asyncio.sleep(1)
            connected = self._transport.connected
            if connected and not was_connected:
                for attempt in [lane.attempt for lane in self._lanes if lane.attempt is not None]:
                    survived = functools.partial(self._arbiter.survived, attempt.job.id, attempt.number)
                    await self._draining.insist(survived)
            was_connected = connected


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel until they have ended: the broker's library swallows a cancellation now and then."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=CANCEL_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


async def _together(parts: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Until all are done. The first that fails ends the others, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
