"""The workers of this machine: what its file says there is to be, and what runs of it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from comfy_dist.errors import ComfyDistError
from comfy_dist.local_workers.entries import MOST, Entries, EntriesUnusable, Entry, read, write
from comfy_dist.local_workers.gpus import Gpu, further
from comfy_dist.local_workers.log_file import LogFile
from comfy_dist.local_workers.supervisor import READY_SECONDS, Supervisor
from comfy_dist.messages import Announcement

log = logging.getLogger(__name__)


class NoSuchEntry(ComfyDistError):
    """No local worker has that id."""


class NameTaken(ComfyDistError):
    """Another local worker has that name."""


class NoSuchDevice(ComfyDistError):
    """This machine has no such device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where everything lies, and how a worker is started."""

    #: The entries (entries.py).
    file: Path
    #: A folder, made when there is something to log.
    logs: Path
    command: Sequence[str]
    environment: Mapping[str, str]
    ready_seconds: float = READY_SECONDS


class LocalWorkers:
    """All of them. run() starts them and ends them with itself; the file is read anew before each change and look,
    so that what was edited by hand is taken over and never overwritten."""

    def __init__(self, place: Place, gpus: Sequence[Gpu], own: Sequence[str]) -> None:
        """`gpus`: of this machine. `own`: devices of this process's own worker, as engines take them."""
        self.place = place
        self.gpus = tuple(gpus)
        self._own = tuple(own)
        self._all: dict[str, Supervisor] = {}
        #: Ids that the file has no more; their workers are still stopping.
        self._leaving: set[str] = set()
        #: What is wrong with the file.
        self.error: str | None = None
        self._editing = asyncio.Lock()
        self._open = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._draining = False

    @property
    def supervisors(self) -> list[Supervisor]:
        """In the file's order, then those that leave."""
        return list(self._all.values())

    def see(self, announcement: Announcement) -> None:
        """Some worker of the cluster is there."""
        if announcement.host == socket.gethostname():
            for each in self._all.values():
                each.see(announcement)

    async def run(self, *, launch: bool) -> None:
        """Until cancelled; then they end at once. `launch`: start those that are enabled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                try:
                    await self._edit(lambda entries: entries)
                except EntriesUnusable as error:
                    self.error = str(error)
                    log.error("%s No local worker is started.", error)
                else:
                    if not self._all:
                        log.info("There are no local workers yet; the page adds them, or %s.", self.place.file)
                for each in self.supervisors if launch else ():
                    if each.entry.enabled:
                        self._start(each)
                self._open.set()
                await asyncio.Event().wait()
            finally:
                for each in self.supervisors:
                    each.let_go()
                await self.ended()

    def drain(self) -> None:
        """All finish what they have and end; told a second time they give it back."""
        for each in self.supervisors:
            # Who was stopped before may take its time yet.
            each.stop(hurry=self._draining)
        self._draining = True

    async def ended(self) -> None:
        """Returns when none runs."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    def find(self, id_: str) -> Supervisor:
        """Raises NoSuchEntry."""
        if (found := self._all.get(id_)) is None or id_ in self._leaving:
            raise NoSuchEntry(f"No local worker has the id {id_[:100]!r}; GET /distributed/local lists them.")
        return found

    async def add(self, name: str, device: str, *, enabled: bool) -> Supervisor:
        """A new one, which is started where it is enabled. Raises NameTaken, NoSuchDevice, EntriesUnusable."""
        await self._open.wait()
        self._check_device(device)
        entry = Entry(id=secrets.token_hex(4), name=name, device=device, enabled=enabled)

        def change(entries: Entries) -> Entries:
            _check_name(entries, entry)
            if len(entries.workers) >= MOST:
                raise EntriesUnusable(
                    f"{self.place.file} has {MOST} workers, the most there can be; remove one first."
                )
            return entries.having(entry)

        await self._edit(change)
        added = self.find(entry.id)
        if enabled:
            self._start(added)
        return added

    async def change(
        self, id_: str, *, name: str | None = None, device: str | None = None, enabled: bool | None = None
    ) -> Supervisor:
        """Another name or device starts a running one again with it; `enabled` starts or stops it.

        Raises NoSuchEntry, NameTaken, NoSuchDevice, EntriesUnusable.
        """
        await self._open.wait()
        self.find(id_)
        if device is not None:
            self._check_device(device)
        given = {"name": name, "device": device, "enabled": enabled}
        update = {key: value for key, value in given.items() if value is not None}

        def change(entries: Entries) -> Entries:
            if (before := entries.find(id_)) is None:
                raise NoSuchEntry(f"{self.place.file} has no worker with the id {id_} any more.")
            entry = before.model_copy(update=update)
            _check_name(entries, entry)
            return entries.having(entry)

        before = self.find(id_).entry
        await self._edit(change)
        changed = self.find(id_)
        if enabled is False and changed.wanted:
            changed.stop()
        elif enabled and not changed.wanted:
            self._start(changed)
        elif changed.wanted and (before.name, before.device) != (changed.entry.name, changed.entry.device):
            self._restart(changed)
        return changed

    async def remove(self, id_: str) -> None:
        """It is told to stop, and gone from the file. Raises NoSuchEntry, EntriesUnusable."""
        await self._open.wait()
        self.find(id_)
        await self._edit(lambda entries: entries.lacking(id_))

    async def start(self, id_: str) -> Supervisor:
        """As its entry says now. Raises NoSuchEntry, EntriesUnusable."""
        await self._reread()
        self._start(found := self.find(id_))
        return found

    async def restart(self, id_: str) -> Supervisor:
        """When it has finished what it has, if it runs. Raises NoSuchEntry, EntriesUnusable."""
        await self._reread()
        self._restart(found := self.find(id_))
        return found

    async def stop(self, id_: str) -> Supervisor:
        """Until it is started again, or the frontend is. Raises NoSuchEntry."""
        await self._open.wait()
        found = self.find(id_)
        found.stop()
        return found

    def _start(self, which: Supervisor) -> None:
        if not self._draining and which.want():
            self._run(which)

    def _restart(self, which: Supervisor) -> None:
        if not self._draining and which.restart():
            self._run(which)

    def _run(self, which: Supervisor) -> None:
        assert self._tasks is not None
        task = self._tasks.create_task(which.run())
        self._under_way.add(task)
        task.add_done_callback(lambda done: self._has_ended(done, which.entry.id))

    def _has_ended(self, task: asyncio.Task[None], id_: str) -> None:
        self._under_way.discard(task)
        if id_ in self._leaving:
            self._forget(id_)

    async def _reread(self) -> None:
        await self._open.wait()
        await self._edit(lambda entries: entries)

    def _first(self) -> Entries:
        """While there is no file: a worker for each further GPU."""
        host = "".join(c if c.isalnum() or c in "_.-" else "-" for c in socket.gethostname())[:30]
        gpus = further(self.gpus, self._own)
        return Entries(
            workers=tuple(Entry(id=f"gpu-{gpu.id}", name=f"{host}-{gpu.id}", device=gpu.id) for gpu in gpus)
        )

    async def look(self) -> None:
        """Take over what was added to the file or changed in it by hand, or what is wrong with it.

        Nobody ends because of a look: who edits may not have finished.
        """
        await self._open.wait()
        async with self._editing:
            try:
                there = await asyncio.to_thread(read, self.place.file)
            except EntriesUnusable as error:
                if str(error) != self.error:
                    log.error("%s Workers go on as they were.", error)
                self.error = str(error)
                return
            self.error = None
            if there is not None:
                self._become(there, ending=False)

    async def _edit(self, change: Callable[[Entries], Entries]) -> None:
        """Read the file, let it be changed, write it, and be as it says."""
        async with self._editing:
            there = await asyncio.to_thread(read, self.place.file)
            changed = change(self._first() if there is None else there)
            # None is no answer for good: a driver that failed may list GPUs the next time.
            if changed != (there or Entries()):
                await asyncio.to_thread(write, self.place.file, changed)
            self.error = None
            self._become(changed)

    def _become(self, entries: Entries, *, ending: bool = True) -> None:
        """`ending`: those end that are not among them."""
        before, self._all = self._all, {}
        for entry in entries.workers:
            known = before.pop(entry.id, None)
            if known is None:
                log_file = LogFile(self.place.logs / f"{entry.id}.log")
                known = Supervisor(
                    entry, self.place.command, self.place.environment, log_file, self.place.ready_seconds
                )
            known.entry = entry
            self._leaving.discard(entry.id)
            self._all[entry.id] = known
        for id_, gone in before.items():
            self._all[id_] = gone
            if not ending:
                continue
            if id_ not in self._leaving:
                self._leaving.add(id_)
                gone.stop()
            if gone.pid is None:
                self._forget(id_)

    def _forget(self, id_: str) -> None:
        self._leaving.discard(id_)
        if (gone := self._all.pop(id_, None)) is not None:
            gone.log.remove()

    def _check_device(self, device: str) -> None:
        known = ("cpu", *(gpu.id for gpu in self.gpus))
        if device not in known:
            raise NoSuchDevice(f"This machine has no device {device[:100]!r}; it has {', '.join(known)}.")


def _check_name(entries: Entries, entry: Entry) -> None:
    if any(each.name == entry.name and each.id != entry.id for each in entries.workers):
        raise NameTaken(f"Another local worker has the name {entry.name}; names tell workers apart.")
