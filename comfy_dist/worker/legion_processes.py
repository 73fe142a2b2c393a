"""The engines that Legion workflows have a worker start beside its own: which there are, and when they end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from comfy_dist.calls.errors import LinkRefused
from comfy_dist.calls.legion_configuration import LocalProcess
from comfy_dist.engine import Engine
from comfy_dist.errors import ComfyDistError
from comfy_dist.worker.attempt import Attempt
from comfy_dist.worker.attempt_calls import AttemptCalls
from comfy_dist.worker.desk import Desk
from comfy_dist.worker.shown_before import ShownBefore
from comfy_dist.worker.standing import Standing

log = logging.getLogger(__name__)

#: Seconds after which one that nobody uses ends.
IDLE_SECONDS = 600.0
#: Begins the targets of calls that are executed beside a worker's lanes. No worker can have such a name.
BESIDE = "legion:"
#: Begins a task.
Begin = Callable[[Coroutine[Any, Any, None]], object]
#: Makes the engine that is asked for, without starting it. Raises ComfyDistError for what is not allowed.
MakeEngine = Callable[[LocalProcess], Engine]


class LegionProcess:
    """One of them. Its engine is started when it is first needed, and again after it has ended."""

    def __init__(self, process: LocalProcess, standing: Standing, lane: int) -> None:
        self.process = process
        self.standing = standing
        self.lane = lane
        self.before = ShownBefore()
        #: One call at a time.
        self.turn = asyncio.Lock()
        #: Calls that it executes, or that wait for their turn, and whoever has it started.
        self.users = 0
        #: Attempts at jobs that count on it until they end.
        self._held: set[AttemptCalls] = set()
        #: What it executes.
        self.attempt: Attempt | None = None
        self.used_at = 0.0

    @property
    def target(self) -> str:
        """What calls for it are sent to; of another with its port it is another."""
        return f"{BESIDE}{self.process.content[:16]}"

    def hold(self, attempt: AttemptCalls) -> None:
        self._held = {each for each in self._held if not each.over.is_set()} | {attempt}

    def is_free_for(self, attempt: AttemptCalls | None) -> bool:
        """Whether it may be ended for this attempt's sake: nobody else counts on it."""
        return not self.users and not any(each is not attempt and not each.over.is_set() for each in self._held)

    async def start(self) -> None:
        """Raises ComfyDistError where it does not start in the time that it was given."""
        engine, seconds = self.standing.engine, self.process.startup_timeout
        if not engine.running:
            self.before.forget()
        try:
            async with asyncio.timeout(seconds):
                self.standing.learn(await engine.start())
        except TimeoutError:
            raise ComfyDistError(
                f"The local process of a Legion workflow was not ready within {seconds:g} s (startup_timeout)."
            ) from None


class LegionProcesses:
    """Those of one worker, by their keys."""

    def __init__(self, desk: Desk, make: MakeEngine, idle_seconds: float, changed: asyncio.Event) -> None:
        """`idle_seconds`: after which one that nobody uses ends."""
        self._desk = desk
        self._make = make
        self._idle_seconds = idle_seconds
        self._changed = changed
        self._all: dict[str, LegionProcess] = {}
        #: Who changes which there are.
        self._gate = asyncio.Lock()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def check(self, process: LocalProcess) -> None:
        """Raises ComfyDistError for one that is not allowed."""
        self._make(process)

    def find(self, target: str) -> LegionProcess | None:
        return next((each for each in self._all.values() if each.target == target), None)

    async def started(self, process: LocalProcess, attempt: AttemptCalls, most: int) -> LegionProcess:
        """The one that is asked for, ready, and held for the attempt. Raises ComfyDistError."""
        async with self._gate:
            found = self._all.get(process.key)
            if found is not None and found.process.content != process.content:
                await self._replace(found, attempt)
                found = None
            if found is None:
                found = await self._added(process, attempt, most)
            found.hold(attempt)
            found.users += 1
        try:
            await found.start()
        except BaseException:
            found.users -= 1
            # Of several who have it started the last one to fail tidies up.
            if found.is_free_for(attempt):
                await self._end(found)
            raise
        found.users -= 1
        return found

    def used(self, process: LegionProcess, begin: Begin) -> None:
        """It has just been used: from now on its idle time counts. `begin` begins a task."""
        loop = asyncio.get_running_loop()
        process.used_at = loop.time()
        key = process.process.key
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        self._timers[key] = loop.call_later(self._idle_seconds, lambda: begin(self._end_if_idle(process, begin)))

    async def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        await asyncio.gather(*(self._end(each) for each in list(self._all.values())))

    async def _replace(self, found: LegionProcess, attempt: AttemptCalls) -> None:
        if not found.is_free_for(attempt):
            raise LinkRefused(
                f"The process with port {found.process.port} is in use now, with another configuration; choose "
                "another port, or auto."
            )
        await self._end(found)

    async def _added(self, process: LocalProcess, attempt: AttemptCalls, most: int) -> LegionProcess:
        engine = self._make(process)
        while len(self._all) >= most:
            idle = [each for each in self._all.values() if each.is_free_for(attempt)]
            if not idle:
                raise LinkRefused(
                    f"There are {most} local processes of Legion workflows, all in use, and there may be no more "
                    "(max_workers)."
                )
            await self._end(min(idle, key=lambda each: each.used_at))
        standing = Standing(engine, self._changed)
        lane = await self._desk.enlist(standing)
        added = self._all[process.key] = LegionProcess(process, standing, lane)
        log.info("A Legion workflow has a process started (%s).", process.key)
        return added

    async def _end_if_idle(self, process: LegionProcess, begin: Begin) -> None:
        async with self._gate:
            if self._all.get(process.process.key) is not process:
                return
            if process.is_free_for(None):
                log.info("The process of a Legion workflow (%s) was idle, and is ended.", process.process.key)
                await self._end(process)
            else:
                self.used(process, begin)

    async def _end(self, process: LegionProcess) -> None:
        key = process.process.key
        if self._all.get(key) is process:
            del self._all[key]
            if (timer := self._timers.pop(key, None)) is not None:
                timer.cancel()
            self._desk.discharge(process.lane)
        await process.standing.engine.close()
