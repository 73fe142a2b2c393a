"""What a worker tells the others about itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from comfy_dist import __version__
from comfy_dist.files.job_files import JobFiles
from comfy_dist.memory import main_memory
from comfy_dist.messages import (
    Announcement,
    Catalogue,
    WorkerState,
    now_ms,
)
from comfy_dist.transport import Transport
from comfy_dist.worker.draining import Draining
from comfy_dist.worker.pausing import Pausing
from comfy_dist.worker.progress import ProgressSender
from comfy_dist.worker.standing import Standing
from comfy_dist.workflows.folder import workflow_folders
from comfy_dist.workspace import Workspace

log = logging.getLogger(__name__)

ANNOUNCE_SECONDS = 5.0
#: Between two looks at the folders behind combos.
WATCH_SECONDS = 2.0
#: Between two looks at the files of an engine that lists others than the workspace's, while it is idle.
OWN_FILES_SECONDS = 60.0
#: A change is announced after this moment, together with what follows it at once; and who asks within it is
#: answered together.
SETTLE_SECONDS = 0.1
#: A running job's progress is announced at most this often.
PROGRESS_SECONDS = 1.0
#: Who of several engines is asked first, and for which the worker stands.
READIEST = (WorkerState.IDLE, WorkerState.BUSY, WorkerState.STARTING)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a worker is: a name that stays, an id of this start of it."""

    name: str
    id: str
    #: What jobs may ask for.
    tags: tuple[str, ...] = ()

    @classmethod
    def make(cls, name: str | None, devices: Sequence[str], tags: Sequence[str] = ()) -> Identity:
        host = "".join(c if c.isalnum() or c in "_.-" else "-" for c in socket.gethostname())
        # Which device "auto" is, its engine finds out.
        name = name or "-".join([host[:30], *(device for device in devices if device != "auto")])[:40]
        return cls(name, f"{name}-{uuid.uuid4().hex[:8]}", tuple(tags))


class Presence:
    """Announces the worker every 5 s, on change, and when asked."""

    def __init__(
        self,
        identity: Identity,
        transport: Transport,
        standings: Sequence[Standing],
        draining: Draining,
        pausing: Pausing,
        workspace: Workspace,
        changed: asyncio.Event,
        files: JobFiles | None = None,
    ) -> None:
        self._identity = identity
        self._transport = transport
        self._standings = standings
        self._draining = draining
        self._pausing = pausing
        self._workspace = workspace
        self._files = files
        #: Set when there is something to announce.
        self.changed = changed
        #: Set when somebody calls the roll.
        self._asked = asyncio.Event()
        self._folders: frozenset[tuple[str, int]] | None = None
        self._started_at = now_ms()
        self._memory = main_memory()

    @property
    def state(self) -> WorkerState:
        """Of the worker as a whole: idle while one of its engines is."""
        if self._draining.begun:
            return WorkerState.DRAINING
        return min((standing.state for standing in self._standings), key=READIEST.index)

    @property
    def catalogue(self) -> Catalogue | None:
        """What the worker can run: the same on each of its engines, but for the devices."""
        known = [standing.catalogue for standing in self._standings if standing.catalogue is not None]
        if not known:
            return None
        devices = tuple(device for catalogue in known for device in catalogue.devices)
        return known[0].model_copy(update={"devices": devices})

    @property
    def _waits_for(self) -> tuple[str, ...]:
        """Of whom one must begin before this worker can take anything."""
        each = [standing.waits_for for standing in self._standings]
        names = (name for waits in each for workers in waits.values() for name in workers)
        return tuple(dict.fromkeys(names)) if all(each) else ()

    @property
    def running(self) -> list[ProgressSender]:
        return [standing.progress for standing in self._standings if standing.progress is not None]

    def announcement(self, state: WorkerState | None = None) -> Announcement:
        catalogue = self.catalogue
        return Announcement(
            id=self._identity.id,
            name=self._identity.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            state=state or self.state,
            engine=self._standings[0].engine.name,
            engine_version=catalogue.engine_version if catalogue else "",
            python_version=catalogue.python_version if catalogue else "",
            pytorch_version=catalogue.pytorch_version if catalogue else "",
            os=platform.system(),
            ram_total=self._memory[0],
            ram_free=self._memory[1],
            devices=catalogue.devices if catalogue else (),
            jobs=tuple(progress.current for progress in self.running),
            waits_for=self._waits_for,
            tags=self._identity.tags,
            models=tuple(dict.fromkeys(name for standing in self._standings for name in standing.models)),
            paused=self._pausing.paused,
            folders=self._files.folders if self._files else {},
            apart=self._files is not None and self._files.apart,
            kind=catalogue.kind if catalogue else "",
            catalogue=catalogue.hash if catalogue else "",
            started_at=self._started_at,
            finished=sum(standing.finished for standing in self._standings),
            failed=sum(standing.failed for standing in self._standings),
            per_hour=round(sum(standing.pace.per_hour for standing in self._standings), 1),
        )

    def show(self) -> None:
        """To whoever calls the roll."""
        self._asked.set()

    async def run(self) -> None:
        """Announce until cancelled."""
        measured = 0.0
        while True:
            if time.monotonic() - measured >= ANNOUNCE_SECONDS:
                measured, self._memory = time.monotonic(), main_memory()
            # Before it is made: what changes while it is sent is news again.
            self.changed.clear()
            self._asked.clear()
            for progress in self.running:
                progress.changed.clear()
            await self._transport.announce(self.announcement())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANNOUNCE_SECONDS):
                    await self._news()

    async def _news(self) -> None:
        """Returns when asked at once, on a change of state after a moment, on progress after a longer one."""
        began = time.monotonic()
        asked, changed = (asyncio.create_task(event.wait()) for event in (self._asked, self.changed))
        progress = [asyncio.create_task(each.changed.wait()) for each in self.running]
        waits = [asked, changed, *progress]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done() and not changed.done():
                remaining = max(0.0, PROGRESS_SECONDS - (time.monotonic() - began))
                await asyncio.wait([asked, changed], timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done() and changed.done():
                # Short jobs begin and end many times a second.
                await asyncio.wait([asked], timeout=SETTLE_SECONDS)
            if asked.done():
                # Many may ask at once.
                await asyncio.sleep(SETTLE_SECONDS - (time.monotonic() - began))
        finally:
            for task in waits:
                task.cancel()

    async def farewell(self) -> None:
        await self._transport.announce(self.announcement(WorkerState.GONE))

    async def watch_folders(self) -> None:
        """Take the catalogues anew when a folder whose files stand in combos has changed, until cancelled.

        Folders outside of the workspace are not watched: engines that have such are asked now and then.
        """
        asked = time.monotonic()
        while True:
            if await self._folders_changed():
                for standing in self._standings:
                    standing.stale = True
            if time.monotonic() - asked >= OWN_FILES_SECONDS:
                asked = time.monotonic()
                for standing in self._standings:
                    standing.stale |= standing.engine.own_files and standing.state is WorkerState.IDLE
            for standing in self._standings:
                if standing.stale and standing.state is not WorkerState.STARTING:
                    await standing.learn_anew()
            await asyncio.sleep(WATCH_SECONDS)

    async def _folders_changed(self) -> bool:
        folders = await asyncio.to_thread(lambda: frozenset(_stamps(self._workspace)))
        before, self._folders = self._folders, folders
        return before is not None and folders != before


def _stamps(workspace: Workspace) -> Iterator[tuple[str, int]]:
    """Path and change time of every folder whose files stand in combos."""
    for root in (workspace.input, workspace.models):
        for here, folders, _ in os.walk(root, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith(".")]
            with contextlib.suppress(OSError):
                yield here, Path(here).stat().st_mtime_ns
    for folder in workflow_folders(workspace.user):
        with contextlib.suppress(OSError):
            yield str(folder), folder.stat().st_mtime_ns
