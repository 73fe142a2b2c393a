"""What a worker tells the others about itself, and what it does when told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_dist import __version__
from comfy_dist.engine import Engine, EngineDied
from comfy_dist.errors import ComfyDistError
from comfy_dist.memory import main_memory
from comfy_dist.messages import (
    Announcement,
    AttemptFailed,
    Catalogue,
    Command,
    Failed,
    Finished,
    Message,
    Reply,
    WorkerState,
    now_ms,
)
from comfy_dist.transport import ReceivedCommand, Transport
from comfy_dist.worker.progress import ProgressSender
from comfy_dist.workspace import Workspace

log = logging.getLogger(__name__)

ANNOUNCE_SECONDS = 5.0
#: Between two looks at the folders behind combos.
WATCH_SECONDS = 2.0
#: A change is announced after this moment, together with what follows it at once.
SETTLE_SECONDS = 0.1
#: A running job's progress is announced at most this often.
PROGRESS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a worker is: a name that stays, an id of this start of it."""

    name: str
    id: str

    @classmethod
    def make(cls, name: str | None, device: str) -> Identity:
        host = "".join(c if c.isalnum() or c in "_.-" else "-" for c in socket.gethostname())
        # Which device "auto" is, its engine finds out.
        name = name or (host[:30] if device == "auto" else f"{host[:30]}-{device}")
        return cls(name, f"{name}-{uuid.uuid4().hex[:8]}")


class Presence:
    """Announces the worker every 5 s and on change, and obeys commands."""

    def __init__(self, identity: Identity, transport: Transport, engine: Engine, workspace: Workspace) -> None:
        self._identity = identity
        self._transport = transport
        self._engine = engine
        self._workspace = workspace
        self.state = WorkerState.STARTING
        self._draining = False
        self.free_wanted = asyncio.Event()
        self._free: dict[str, bool] = {}
        self._catalogue: Catalogue | None = None
        self._folders: frozenset[tuple[str, int]] = frozenset()
        self._progress: ProgressSender | None = None
        self._finished = self._failed = 0
        self._started_at = now_ms()
        self._memory = main_memory()
        self._changed = asyncio.Event()

    @property
    def device(self) -> str:
        devices = self._catalogue.devices if self._catalogue else ()
        return devices[0].name if devices else ""

    def become(self, state: WorkerState) -> None:
        if state is not self.state:
            self.state = state
            self._changed.set()

    def drain(self) -> None:
        """Announced until the end, whatever the job in hand does."""
        self._draining = True
        self._changed.set()

    def learn(self, catalogue: Catalogue) -> None:
        """What the engine can run now."""
        if self._catalogue is None or catalogue.hash != self._catalogue.hash:
            self._catalogue = catalogue
            self._changed.set()

    def begin(self, progress: ProgressSender) -> None:
        self._progress = progress
        self.become(WorkerState.BUSY)

    def end(self, ending: Message | None) -> None:
        self._finished += isinstance(ending, Finished)
        self._failed += isinstance(ending, (Failed, AttemptFailed))
        self._progress = None
        self._changed.set()

    def announcement(self, state: WorkerState | None = None) -> Announcement:
        catalogue = self._catalogue
        return Announcement(
            id=self._identity.id,
            name=self._identity.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            state=state or (WorkerState.DRAINING if self._draining else self.state),
            engine=self._engine.name,
            engine_version=catalogue.engine_version if catalogue else "",
            python_version=catalogue.python_version if catalogue else "",
            pytorch_version=catalogue.pytorch_version if catalogue else "",
            os=platform.system(),
            ram_total=self._memory[0],
            ram_free=self._memory[1],
            devices=catalogue.devices if catalogue else (),
            job=self._progress.current if self._progress else None,
            kind=catalogue.kind if catalogue else "",
            catalogue=catalogue.hash if catalogue else "",
            started_at=self._started_at,
            finished=self._finished,
            failed=self._failed,
        )

    async def run(self) -> None:
        """Announce until cancelled."""
        measured = 0.0
        while True:
            if time.monotonic() - measured >= ANNOUNCE_SECONDS:
                measured, self._memory = time.monotonic(), main_memory()
            await self._transport.announce(self.announcement())
            self._changed.clear()
            if self._progress:
                self._progress.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANNOUNCE_SECONDS):
                    await self._news()

    async def _news(self) -> None:
        """Returns on a change of state at once, on progress after a moment."""
        began = time.monotonic()
        while True:
            waits = [asyncio.create_task(self._changed.wait())]
            if self._progress is not None:
                waits.append(asyncio.create_task(self._progress.changed.wait()))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if self._changed.is_set():
                    # Short jobs begin and end many times a second.
                    await asyncio.sleep(SETTLE_SECONDS)
                    return
                remaining = PROGRESS_SECONDS - (time.monotonic() - began)
                await asyncio.wait(waits[:1], timeout=max(0.0, remaining))
                return
            finally:
                for task in waits:
                    task.cancel()

    async def farewell(self) -> None:
        await self._transport.announce(self.announcement(WorkerState.GONE))

    async def watch_folders(self) -> None:
        """Take the catalogue anew when a folder whose files stand in combos has changed, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._catalogue is not None:
                await self._look_at_folders()

    async def _look_at_folders(self) -> None:
        folders = await asyncio.to_thread(lambda: frozenset(_stamps(self._workspace)))
        if folders == self._folders:
            return
        first, self._folders = not self._folders, folders
        if not first and self.state is not WorkerState.STARTING:
            try:
                self.learn(await self._engine.catalogue())
            except ComfyDistError as error:
                log.debug("The catalogue could not be taken anew: %s", error)

    async def obey(self) -> None:
        """Answer commands until cancelled."""
        async for received in self._transport.commands():
            try:
                result = await self._do(received.command)
            except Exception as error:  # noqa: BLE001  (whatever someone sent, the worker goes on)
                log.warning("The command %s failed: %s", received.command.verb, error)
                result = {"error": str(error)}
            if result is not None:
                await self._answer(received, result)

    async def _answer(self, received: ReceivedCommand, result: dict[str, Any]) -> None:
        await received.reply(Reply(command=received.command.id, worker=self._identity.id, result=result))

    async def _do(self, command: Command) -> dict[str, Any] | None:
        """The answer; None: nobody waits for one."""
        arguments = command.arguments
        match command.verb:
            case "announce":
                self._changed.set()
                return None
            case "catalogue":
                return self._catalogue.model_dump(mode="json") if self._catalogue else {}
            case "validate":
                verdict = await self._engine.validate(
                    arguments["prompt"], tuple(arguments["targets"]) if arguments.get("targets") else None
                )
                return verdict.model_dump(mode="json")
            case "free":
                self._free = {
                    key: bool(arguments.get(key)) or self._free.get(key, False)
                    for key in ("unload_models", "free_memory")
                }
                self.free_wanted.set()
                return {}
            case "replay":
                if self._progress is not None and self._progress.current.id == arguments.get("job"):
                    self._progress.replay()
                return None

    async def free_if_asked(self) -> None:
        """The idle moment that `free` waits for."""
        if self.free_wanted.is_set():
            self.free_wanted.clear()
            wanted, self._free = self._free, {}
            # An engine that has died holds nothing.
            with contextlib.suppress(EngineDied):
                await self._engine.free(**wanted)


def _stamps(workspace: Workspace) -> Iterator[tuple[str, int]]:
    """Path and change time of every folder whose files stand in combos."""
    for root in (workspace.input, workspace.models):
        for here, folders, _ in os.walk(root, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith(".")]
            with contextlib.suppress(OSError):
                yield here, Path(here).stat().st_mtime_ns
