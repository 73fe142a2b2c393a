"""A frontend's side: its folders, and through them those of the others."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from comfy_dist.files import placing
from comfy_dist.files.collecting import Collector
from comfy_dist.files.exchange import Exchange
from comfy_dist.files.fetching import Fetcher, NotFetched, NotKept, Wanted
from comfy_dist.files.inputs import file_inputs, named
from comfy_dist.files.names import Named
from comfy_dist.messages import Announcement, Command, Event, InputFile, Prompt, Reply
from comfy_dist.transport import ReceivedCommand, Transport
from comfy_dist.workspace import PathRefused, inside

log = logging.getLogger(__name__)

#: Longest value of an input that is looked up as a file's name.
_MAX_NAME = 1024
#: Files of a prompt that are looked for at a time, and of those that may lie elsewhere so many in all: each that
#: nobody has takes a second.
_AT_ONCE = 64
_MOST_ELSEWHERE = 640


class ClusterFiles:
    """What a frontend does about files; run() does it. `state` is the frontend's local folder."""

    def __init__(self, exchange: Exchange, transport: Transport, state: Path, *, answers: bool = True) -> None:
        """`answers`: whether to answer others; in one process with a worker, that does."""
        self._holder = exchange.holder
        self._transport = transport
        self._fetcher = Fetcher(transport, exchange.cache)
        self._answers = answers
        self.collector = Collector(state / "wanted", self.folders.get("output", ""), self.bring, self._tell)

    @property
    def folders(self) -> dict[str, str]:
        return self._holder.folders

    async def run(self) -> None:
        """Answer others, and fetch outputs, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.collector.run())
                if self._answers:
                    tasks.create_task(self._answer_all(tasks))
        finally:
            await self._fetcher.close()

    async def _answer_all(self, tasks: asyncio.TaskGroup) -> None:
        async with self._transport.commands() as commands:
            async for received in commands:
                if received.command.verb in ("grant", "read"):
                    tasks.create_task(self._answer(received))

    async def _answer(self, received: ReceivedCommand) -> None:
        try:
            result = await self._holder.answer(received.command)
        except Exception as error:  # noqa: BLE001  (whatever someone sent, the frontend goes on)
            log.warning("The command %s failed: %s", received.command.verb, error)
            result = {"error": str(error)}
        if result is not None:
            await received.reply(Reply(command=received.command.id, worker="", result=result))

    def greets(self, worker: Announcement) -> Command | None:
        """What a worker must be told that does not know yet that we do not share its folders."""
        theirs = [worker.folders.get(type_) for type_ in ("output", "temp")]
        ours = [self.folders.get(type_) for type_ in ("output", "temp")]
        if worker.apart or not worker.folders or theirs == ours:
            return None
        return Command(verb="apart", worker=worker.id)

    async def note(self, events: Sequence[Event | None], since: int = 0) -> None:
        """To be called before these events are folded into the ledger."""
        await self.collector.note(events, since)

    async def input_names(self) -> tuple[str, ...]:
        """What lies in our input folder, as nodes list it."""
        return await asyncio.to_thread(_file_names, self._holder.workspace.input)

    async def find(self, file: Named) -> Path | None:
        """The file, if it lies in our own folders."""
        return await asyncio.to_thread(self._holder.find, file)

    async def get(self, file: Named) -> Path | None:
        """The file, wherever in the cluster it is; None where nobody has it. Raises NotKept."""
        if (path := await self.find(file)) is not None:
            return path
        try:
            return await self._fetcher.fetch(Wanted(file))
        except NotKept:
            raise
        except NotFetched as error:
            log.info("%s", error)
        # On a network file system it may have come into sight meanwhile.
        return await self.find(file)

    async def bring(self, file: Named) -> Path:
        """The file in our own folder, fetched where it does not lie there yet. Raises NotFetched and OSError."""
        if (path := await self.find(file)) is not None:
            return path
        folder = self._holder.workspace.folder(file.type)
        try:
            target = inside(folder, file.name)
        except PathRefused as error:
            raise NotFetched(str(error)) from None
        fetched = await self._fetcher.fetch(Wanted(file))
        # Where the name was taken meanwhile, it was the same file: it is unique, or was in nobody's way before.
        await asyncio.to_thread(placing.put, fetched, inside(folder), target)
        return target

    async def _tell(self, files: Sequence[Named]) -> None:
        """Let workers know that they need not stay for these."""
        named = [[file.type, file.name] for file in files]
        await self._transport.send(Command(verb="collected", arguments={"files": named}))

    async def inputs(self, prompt: Prompt, nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, InputFile]:
        """{value of an input: the file it names}, of a prompt's inputs that name files which can be had.

        What only another frontend has is brought here, as if it had been uploaded to this one.
        """
        sure = dict.fromkeys(value for *_, value in file_inputs(prompt, nodes, only_uploads=True))
        where: dict[str, list[tuple[str, str]]] = {}
        for node_id, name, value in file_inputs(prompt, nodes):
            if 0 < len(value) <= _MAX_NAME:
                where.setdefault(value, []).append((node_id, name))
        slots = asyncio.Semaphore(_AT_ONCE)
        elsewhere = set(list(sure)[:_MOST_ELSEWHERE])

        async def look(value: str, inputs: list[tuple[str, str]]) -> InputFile | None:
            file = named(value)
            async with slots:
                try:
                    path = await self.bring(file) if value in elsewhere else await self.find(file)
                    if path is None:
                        return None
                    size = (await asyncio.to_thread(path.stat)).st_size
                    digest = await self._holder.digests.of(path)
                except (NotFetched, OSError, PathRefused) as error:
                    # The worker has it itself, or its validation says that it is missing.
                    log.debug("The file of the input %s of node %s: %s", inputs[0][1], inputs[0][0], error)
                    return None
            return InputFile(type=file.type, name=file.name, size=size, sha256=digest, inputs=tuple(inputs))

        found = await asyncio.gather(*(look(value, inputs) for value, inputs in where.items()))
        return {value: file for value, file in zip(where, found, strict=True) if file is not None}


def _file_names(folder: Path) -> tuple[str, ...]:
    with os.scandir(folder) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_file()))
