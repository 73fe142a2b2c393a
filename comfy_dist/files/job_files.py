"""A worker's side: the files that its jobs read are brought here, those that they write are given to others."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from comfy_dist.errors import ComfyDistError
from comfy_dist.files import names, placing
from comfy_dist.files.exchange import Exchange
from comfy_dist.files.fetching import Fetcher, NotFetched, Wanted
from comfy_dist.files.inputs import value_of
from comfy_dist.files.names import Named
from comfy_dist.messages import Command, InputFile, Job, Prompt
from comfy_dist.transport import Transport
from comfy_dist.workspace import PathRefused, inside

log = logging.getLogger(__name__)

#: Seconds that a job waits for a file whose frontend does not answer; it may be starting again.
INPUT_PATIENCE = 30.0
#: Seconds that a worker which is to leave waits until somebody has its jobs' outputs.
HANDOVER_SECONDS = 60.0
#: Outputs that it remembers to be waiting for somebody.
AWAITED = 100_000


class NotSupplied(ComfyDistError):
    """A file that the prompt names could not be brought here."""


class JobFiles:
    """What a worker does about files. One for all its engines; to be closed."""

    def __init__(self, exchange: Exchange, transport: Transport, *, patience: float = INPUT_PATIENCE) -> None:
        """`patience`: seconds that a job waits for a file."""
        self._patience = patience
        self._holder = exchange.holder
        self._workspace = exchange.holder.workspace
        self._fetcher = Fetcher(transport, exchange.cache)
        #: Whether a frontend said that it does not share the folders.
        self.apart = False
        #: Outputs that a frontend is to fetch.
        self._waiting: dict[Named, None] = {}
        self._all_taken = asyncio.Event()
        self._all_taken.set()

    @property
    def folders(self) -> dict[str, str]:
        return self._holder.folders

    async def close(self) -> None:
        await self._fetcher.close()

    async def sweep(self) -> None:
        """Remove what an earlier process lent to its jobs and could not take back."""
        for type_ in self.folders:
            try:
                await asyncio.to_thread(placing.sweep, self._workspace.folder(type_))
            except OSError as error:
                log.warning("Files of ended jobs stay in %s: %s.", type_, error.strerror)

    async def answer(self, command: Command) -> dict[str, Any] | None:
        """To the commands of files; None where another is meant."""
        if command.verb == "apart":
            self.apart = True
            return {}
        if command.verb == "collected":
            self._were_taken(Named(str(type_), str(name)) for type_, name in command.arguments["files"])
            return None
        return await self._holder.answer(command)

    # What a job reads

    @contextlib.asynccontextmanager
    async def supplied(
        self,
        prompt: Prompt,
        files: Sequence[InputFile],
        folders: Mapping[str, str],
        *,
        patience: float | None = None,
    ) -> AsyncIterator[Prompt]:
        """The prompt as it can be executed here: its files lie in our folders, until the block is left.

        Under their names, or where a name is another file's here under one that the prompt is told. `patience`:
        seconds for each; None: a job's. Raises NotSupplied.
        """
        limit = self._patience if patience is None else patience
        called: dict[Named, Named] = {}
        held: list[tuple[Path, int]] = []
        try:
            for file in files:
                wanted = Wanted(Named(file.type, file.name), folders.get(file.type), file.sha256)
                try:
                    called[wanted.file] = await self._supply(wanted, file.size, held, limit)
                except NotFetched as error:
                    raise NotSupplied(f"{error} The prompt names it.") from None
                except PathRefused as error:
                    raise NotSupplied(str(error)) from None
                except OSError as error:
                    why = error.strerror or error
                    raise NotSupplied(f"The file {file.name!r} cannot be put into {file.type}: {why}.") from None
            yield _told(prompt, files, called)
        finally:
            for folder, descriptor in held:
                await asyncio.to_thread(placing.give_back, folder, descriptor)

    async def _supply(self, wanted: Wanted, size: int, held: list[tuple[Path, int]], patience: float) -> Named:
        """What the file is called here."""
        file, folder = wanted.file, self._workspace.folder(wanted.file.type)
        shared = wanted.folder is not None and wanted.folder == self.folders.get(file.type)
        path = inside(folder, file.name)
        if shared and await asyncio.to_thread(path.is_file):
            return file
        # It may be one that a job of this worker wrote.
        own = await asyncio.to_thread(names.find, folder, self._holder.identities.get(file.type), file)
        if own is not None:
            return Named(file.type, own.relative_to(inside(folder)).as_posix())
        if shared:
            # It was deleted meanwhile: the node will say so.
            return file
        if (descriptor := await self._hold(folder, path, wanted, size)) is not None:
            held.append((folder, descriptor))
            return file
        source = await self._fetcher.fetch(wanted, patience)
        assert wanted.sha256 is not None
        other = PurePosixPath(file.name)
        other = other.with_name(f"{other.stem}_{wanted.sha256[:10]}{other.suffix}")
        for name in (file.name, other.as_posix()):
            descriptor = await asyncio.to_thread(placing.lend, source, folder, inside(folder, name))
            if descriptor is not None:
                held.append((folder, descriptor))
                return Named(file.type, name)
        raise NotSupplied(f"The name {other} in {file.type} is taken by another file; move that away.")

    async def _hold(self, folder: Path, path: Path, wanted: Wanted, size: int) -> int | None:
        """The file that is here under that name, if it is the one that is wanted."""
        descriptor = await asyncio.to_thread(placing.hold, folder, path)
        if descriptor is not None:
            stat = await asyncio.to_thread(path.stat)
            if stat.st_size == size and await self._holder.digests.of(path) == wanted.sha256:
                return descriptor
            await asyncio.to_thread(placing.give_back, folder, descriptor)
        return None

    # What it writes

    def report(self, job: Job) -> Report:
        return Report(self, job)

    def clustered(self, file: Named) -> Named:
        """Its name in the cluster; the file's own where there is no such file."""
        identity = self._holder.identities.get(file.type)
        path = self._holder.find(file)
        if identity is None or path is None:
            return file
        try:
            return names.clustered(identity, file, path.stat())
        except FileNotFoundError:
            # Removed meanwhile.
            return file

    def await_fetching(self, files: Sequence[Named]) -> None:
        self._waiting.update(dict.fromkeys(files))
        while len(self._waiting) > AWAITED:
            del self._waiting[next(iter(self._waiting))]
        if self._waiting:
            self._all_taken.clear()

    def _were_taken(self, files: Iterable[Named]) -> None:
        for file in files:
            self._waiting.pop(file, None)
        if not self._waiting:
            self._all_taken.set()

    async def handed_over(self) -> None:
        """Returns when the outputs of ended jobs have been fetched, or nobody seems to come for them."""
        if self._all_taken.is_set():
            return
        log.info("Outputs are to be fetched from here before this worker leaves: %d.", len(self._waiting))
        try:
            async with asyncio.timeout(HANDOVER_SECONDS):
                await self._all_taken.wait()
        except TimeoutError:
            log.warning(
                "%d outputs were fetched by nobody in %g s and stay here alone, among them %s.",
                len(self._waiting),
                HANDOVER_SECONDS,
                next(iter(self._waiting)).name,
            )


class Report:
    """How the files of one job are called to others."""

    def __init__(self, files: JobFiles, job: Job) -> None:
        self._files = files
        ours = files.folders
        apart = {type_ for type_, id_ in ours.items() if job.folders and job.folders.get(type_) != id_}
        self._renamed = set(ours) if files.apart else apart
        #: The names of a job stay the same while it runs.
        self._names: dict[Named, Named] = {}
        self._given = {Named(file.type, file.name) for file in job.files}
        #: Whose outputs they are, where these lie elsewhere.
        self.home = job.folders.get("output", "") if "output" in apart else ""

    def shown(self, value: Any) -> Any:
        """What a node shows, with its files as others know them."""
        return names.renamed(value, self._rename) if self._renamed else value

    def ended(self, outputs: Mapping[str, Any]) -> None:
        """The job has ended with these, as they were shown."""
        if self.home:
            self._files.await_fetching([file for file in names.named_in(dict(outputs)) if file.type == "output"])

    def _rename(self, file: Named) -> Named:
        if file.type not in self._renamed or file in self._given:
            return file
        if file not in self._names:
            self._names[file] = self._files.clustered(file)
        return self._names[file]


def _told(prompt: Prompt, files: Sequence[InputFile], called: Mapping[Named, Named]) -> Prompt:
    """The prompt with the names that its files have here."""
    told = prompt
    for file in files:
        here = called[Named(file.type, file.name)]
        if here == Named(file.type, file.name):
            continue
        if told is prompt:
            told = copy.deepcopy(prompt)
        for node_id, name in file.inputs:
            inputs = told[node_id]["inputs"]
            inputs[name] = value_of(here, inputs[name])
    return told
