"""Keeps one local worker running: started, started again when it crashes, stopped when it is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum

from comfy_dist.engine.child import describe_exit
from comfy_dist.errors import UsageError
from comfy_dist.local_workers.entries import Entry
from comfy_dist.local_workers.log_file import LogFile
from comfy_dist.local_workers.worker_process import WorkerProcess
from comfy_dist.messages import Announcement, WorkerState

log = logging.getLogger(__name__)

#: Seconds between a crash and the next start: doubled from the first to the last.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
#: Seconds of being ready after which a crash is the first again.
HEALTHY_SECONDS = 60.0
#: Seconds until a worker that is not ready has its state say why.
READY_SECONDS = 120.0


class State(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    #: It finishes what it has.
    STOPPING = "stopping"
    #: It crashed, and is started again in a moment.
    RESTARTING = "restarting"
    #: It cannot be started as it is configured, and is not tried again until it is told.
    FAILED = "failed"


def pause_after(crashes: int) -> float:
    """Seconds to wait after so many crashes one after the other."""
    return float(min(FIRST_PAUSE * 2 ** min(crashes - 1, 30), LONGEST_PAUSE))


class Supervisor:
    """The worker of one entry. run() is to be running while it is wanted."""

    def __init__(
        self,
        entry: Entry,
        command: Sequence[str],
        environment: Mapping[str, str],
        kept: LogFile,
        ready_seconds: float = READY_SECONDS,
    ) -> None:
        """`command` starts any worker, the entry's arguments are added; `environment` is that of all of them."""
        self.entry = entry
        self.log = kept
        self._command = command
        self._environment = environment
        self._ready_seconds = ready_seconds
        self._wanted = self._running = False
        #: Whether its entry has changed since it was started.
        self._again = False
        #: Calls it out of a pause.
        self._called = asyncio.Event()
        self._process: WorkerProcess | None = None
        self._announced: Announcement | None = None
        self._ready_at = 0.0
        self._pausing = False
        self._crashes = 0
        #: How often it was started again after a crash.
        self.restarts = 0
        #: Why it ended last; None where that was meant, or it has run since.
        self._error: str | None = None
        #: Whether it should have been ready by now.
        self._late = False

    @property
    def state(self) -> State:
        if self._process is not None:
            if self._process.told:
                return State.STOPPING
            return State.RUNNING if self._ready_at else State.STARTING
        if self._pausing:
            return State.RESTARTING
        if self._running and self._wanted:
            return State.STARTING
        return State.STOPPED if self._error is None else State.FAILED

    @property
    def error(self) -> str | None:
        """Why it is not running; None where that is as it should be."""
        if self._process is None or not self._late or self._process.told:
            return self._error
        seconds = f"{self._ready_seconds:g}"
        return f"It is not ready after {seconds} s. Its log ends with: {_said(self._process)}"

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def worker(self) -> str | None:
        """The id under which the worker announced itself."""
        return None if self._announced is None else self._announced.id

    @property
    def wanted(self) -> bool:
        """Whether it is to run now, whatever it does yet."""
        return self._wanted

    def want(self) -> bool:
        """It is to run, without a pause; whether that needs a run()."""
        self._wanted = True
        self._crashes = 0
        self._error = None
        self._called.set()
        needed, self._running = not self._running, True
        return needed

    def restart(self) -> bool:
        """It is to run as its entry says now, once it has finished what it has; whether that needs a run()."""
        self._again = True
        if self._process is not None and not self._process.told:
            self._process.drain()
        return self.want()

    def stop(self, *, hurry: bool = True) -> None:
        """It takes no more and finishes what it has; told a second time, in a hurry, it gives that back."""
        self._wanted = False
        self._error = None
        self._called.set()
        if self._process is not None and (hurry or not self._process.told):
            self._process.drain()

    def let_go(self) -> None:
        """It ends at once."""
        self._wanted = False
        self._called.set()
        if self._process is not None:
            self._process.let_go()

    def see(self, announcement: Announcement) -> None:
        """An announcement of a worker on this machine."""
        if self._process is None or announcement.pid != self._process.pid:
            return
        if announcement.state is WorkerState.GONE:
            self._announced = None
            return
        self._announced = announcement
        if announcement.state is not WorkerState.STARTING and not self._ready_at:
            self._ready_at = time.monotonic()
            self._late = False
            self._error = None
            log.info("Local worker %s is ready.", self.entry.name)

    async def run(self) -> None:
        """Until it is wanted no more, and has ended."""
        try:
            while self._wanted:
                await self._once()
        finally:
            self._running = False
            if self._process is not None:
                self._process.let_go()

    async def _once(self) -> None:
        """From a start to its end, and the pause before the next."""
        self._again = self._late = False
        entry = self.entry
        # Variables, so that no name or device can be taken for a flag; the entry's own words win.
        given = {"COMFYUI_WORKER_NAME": entry.name, "COMFYUI_DEVICES": entry.device}
        try:
            self._process = await WorkerProcess.start(
                [*self._command, *entry.arguments], {**self._environment, **given, **entry.environment}, self.log
            )
        except OSError as error:
            self._give_up(f"It cannot be started: {error.strerror or error}.")
            return
        if self._again or not self._wanted:
            # Told while the process was being made.
            self._process.drain()
        log.info("Local worker %s starts, as process %d.", entry.name, self._process.pid)
        late = asyncio.get_running_loop().call_later(self._ready_seconds, self._say_late)
        try:
            code = await self._process.ended()
        finally:
            late.cancel()
        process, self._process, self._announced = self._process, None, None
        healthy, self._ready_at = self._ready_at and time.monotonic() - self._ready_at, 0.0
        if process.told:
            log.info("Local worker %s has stopped.", entry.name)
        elif code == 0:
            # Somebody drained it by another way: it is to stay away.
            log.info("Local worker %s was drained and has left.", entry.name)
            self._wanted = False
            self._error = None
        elif code == UsageError.exit_code:
            self._give_up(f"It cannot be started as it is configured: {_said(process)}")
        else:
            if healthy >= HEALTHY_SECONDS:
                self._crashes = 0
            await self._pause(f"It {describe_exit(code)}: {_said(process)}")

    def _give_up(self, sentence: str) -> None:
        self._wanted = False
        self._error = sentence
        log.error("Local worker %s: %s", self.entry.name, sentence)

    async def _pause(self, sentence: str) -> None:
        self._crashes += 1
        pause = pause_after(self._crashes)
        self._error = sentence
        log.warning("Local worker %s: %s It starts again in %g s.", self.entry.name, sentence, pause)
        self._called.clear()
        self._pausing = True
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._called.wait()
        finally:
            self._pausing = False
        self.restarts += self._wanted

    def _say_late(self) -> None:
        self._late = not self._ready_at
        if self._late:
            log.warning("Local worker %s: %s", self.entry.name, self.error)


def _said(process: WorkerProcess) -> str:
    """The last line of its log, as the end of a sentence."""
    line = process.last_line or "it said nothing"
    return line if line.endswith((".", "!", "?")) else f"{line}."
