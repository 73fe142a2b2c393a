"""Outputs of jobs, fetched into the output folder of the frontend that took them, whoever asks for them or not.

A worker may be gone an hour later, and its disk with it. What is still to be fetched is written down before the
frontend's place in the event log moves on, so that neither its restart nor the worker's loses a file.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from comfy_dist.files.fetching import NotFetched
from comfy_dist.files.names import Named, named_in
from comfy_dist.messages import Cancelled, Event, Failed, Finished

log = logging.getLogger(__name__)

#: Jobs whose files are fetched at a time.
AT_ONCE = 4
#: Seconds between tries; a worker may be starting again.
RETRY_SECONDS = 15.0
#: Seconds after which nobody has them any more.
GIVEN_UP = 7 * 86_400


class Collector:
    """`bring` fetches one file into our folder, whose id is `home`; `tell` lets workers know which are here."""

    def __init__(
        self,
        folder: Path,
        home: str,
        bring: Callable[[Named], Awaitable[object]],
        tell: Callable[[Sequence[Named]], Awaitable[None]],
    ) -> None:
        self._folder = folder
        self._home = home
        self._bring = bring
        self._tell = tell
        #: What is written down, and what could not be.
        self._noted: asyncio.Queue[Path | dict[str, list[Named]]] = asyncio.Queue()
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def note(self, events: Sequence[Event | None], since: int = 0) -> None:
        """Write down what these events say is to be fetched; `since`, in ms: what is older is known."""
        wanted = {
            event.job_id: files
            for event in events
            if isinstance(event, (Finished, Failed, Cancelled)) and event.at >= since
            if event.home and event.home == self._home
            if (files := [file for file in named_in(event.outputs) if file.type == "output"])
        }
        if wanted:
            try:
                paths = await asyncio.to_thread(self._write, wanted)
            except OSError as error:
                # The ledger lies on the same disk: what it cannot write either is read again after a crash.
                log.error(
                    "What is to be fetched cannot be written down: %s. It goes on by itself.",
                    error.strerror or error,
                )
                self._noted.put_nowait(wanted)
            else:
                self._fetch(paths)

    def _fetch(self, paths: Sequence[Path]) -> None:
        for path in paths:
            self._noted.put_nowait(path)

    def _write(self, wanted: dict[str, list[Named]]) -> list[Path]:
        self._folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for job_id, files in wanted.items():
            path = self._folder / hashlib.sha256(job_id.encode("utf-8", "surrogatepass")).hexdigest()
            new = path.with_suffix(".new")
            new.write_text(json.dumps([[file.type, file.name] for file in dict.fromkeys(files)]))
            new.replace(path)
            paths.append(path)
        return paths

    async def run(self) -> None:
        """Fetch what is noted, of earlier runs too, until cancelled."""
        self._fetch(await asyncio.to_thread(self._left))
        async with asyncio.TaskGroup() as tasks:
            while True:
                noted = await self._noted.get()
                tasks.create_task(self._collect(noted) if isinstance(noted, Path) else self._write_later(noted))

    async def _write_later(self, wanted: dict[str, list[Named]]) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                paths = await asyncio.to_thread(self._write, wanted)
            except OSError as error:
                log.debug("Still not written down: %s", error)
            else:
                self._fetch(paths)
                return

    def _left(self) -> list[Path]:
        return [path for path in self._folder.iterdir() if not path.suffix] if self._folder.is_dir() else []

    async def _collect(self, path: Path) -> None:
        """All files of a job; those that cannot be had are asked for again and again."""
        while True:
            async with self._slots:
                try:
                    done = await self._try(path)
                except OSError as error:
                    log.warning("Outputs of other machines cannot be stored: %s.", error.strerror or error)
                    done = False
            if done:
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def _try(self, path: Path) -> bool:
        try:
            left = json.loads(await asyncio.to_thread(path.read_text))
            noted_at = (await asyncio.to_thread(path.stat)).st_mtime
        except FileNotFoundError:
            # The same event came twice.
            return True
        except ValueError:
            log.warning("%s is not readable; what it names is fetched when it is asked for.", path)
            await asyncio.to_thread(path.unlink, missing_ok=True)
            return True
        missing: list[str] = []
        here: list[Named] = []
        for type_, name in left:
            try:
                await self._bring(Named(type_, name))
                here.append(Named(type_, name))
            except NotFetched as error:
                missing.append(name)
                log.info("%s It is wanted here and will be asked for again.", error)
        await self._tell(here)
        if missing and time.time() - noted_at < GIVEN_UP:
            return False
        if missing:
            log.warning("Nobody has these outputs any more: %s.", ", ".join(missing[:10]))
        await asyncio.to_thread(path.unlink, missing_ok=True)
        return True
