"""What a worker does when told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from comfy_dist.engine import Engine
from comfy_dist.files.job_files import JobFiles
from comfy_dist.messages import CancelledFact, Command, InputFile, Reply
from comfy_dist.transport import ReceivedCommand, Transport
from comfy_dist.worker.desk import Desk
from comfy_dist.worker.draining import Draining
from comfy_dist.worker.log_lines import KEPT, LogLines
from comfy_dist.worker.presence import READIEST, Identity, Presence
from comfy_dist.worker.standing import Standing

log = logging.getLogger(__name__)

#: After this nobody waits for the answer to a command.
COMMAND_SECONDS = 30.0


class Commands:
    """Obeys commands to the worker, or to all workers."""

    def __init__(
        self,
        identity: Identity,
        transport: Transport,
        standings: Sequence[Standing],
        draining: Draining,
        presence: Presence,
        log_lines: LogLines,
        desk: Desk,
        files: JobFiles | None = None,
    ) -> None:
        self._identity = identity
        self._transport = transport
        self._standings = standings
        self._draining = draining
        self._presence = presence
        self._log_lines = log_lines
        self._desk = desk
        self._files = files

    async def obey(self, commands: AsyncIterator[ReceivedCommand]) -> None:
        """Answer them until cancelled; one that takes long keeps no other waiting."""
        async with asyncio.TaskGroup() as group:
            async for received in commands:
                group.create_task(self._answer(received))

    async def _answer(self, received: ReceivedCommand) -> None:
        command = received.command
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                result = await self._do(command)
        except TimeoutError:
            result = {"error": f"No engine answered within {COMMAND_SECONDS:g} s."}
        except Exception as error:  # noqa: BLE001  (whatever someone sent, the worker goes on)
            log.warning("The command %s failed: %s", command.verb, error)
            result = {"error": str(error)}
        if result is not None:
            await received.reply(Reply(command=command.id, worker=self._identity.id, result=result))
        if command.verb == "drain":
            # When the answer is on its way: an idle worker leaves at once.
            log.info("Worker %s was told to drain: it leaves as soon as its jobs have ended.", self._identity.name)
            self._draining.tell_once()
            self._presence.changed.set()
            for standing in self._standings:
                standing.attention.call()

    async def _do(self, command: Command) -> dict[str, Any] | None:
        """The answer; None: nobody waits for one."""
        arguments = command.arguments
        match command.verb:
            case "announce":
                self._presence.show()
                return None
            case "catalogue":
                return catalogue.model_dump(mode="json") if (catalogue := self._presence.catalogue) else {}
            case "validate":
                return await self._validate(arguments)
            case "free":
                for standing in self._standings:
                    standing.ask_to_free(
                        unload_models=bool(arguments.get("unload_models")),
                        free_memory=bool(arguments.get("free_memory")),
                    )
                return {}
            case "replay":
                for progress in self._presence.running:
                    if progress.current.id == arguments.get("job"):
                        progress.replay()
                return None
            case "interrupt":
                jobs = [progress.current.id for progress in self._presence.running]
                for job in jobs:
                    await self._transport.append_fact(
                        CancelledFact(job=job, by=str(arguments.get("by", ""))[:100])
                    )
                return {"jobs": jobs}
            case "restart_engine":
                jobs = [progress.current.id for progress in self._presence.running]
                await asyncio.gather(*(standing.replace_engine() for standing in self._standings))
                return {"jobs": jobs}
            case "drain":
                return {"jobs": [progress.current.id for progress in self._presence.running]}
            case "log":
                return {"lines": self._log_lines.last(int(arguments.get("lines", KEPT)))}
            case "plane" | "publish" | "listen":
                return await self._desk.answer(command)
            case "grant" | "read" | "apart" | "collected":
                answer = await self._files.answer(command) if self._files is not None else None
                if command.verb == "apart":
                    self._presence.changed.set()
                return answer

    async def _validate(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """With the files that the prompt names, for a node's code may look for them."""
        targets = tuple(arguments["targets"]) if arguments.get("targets") else None
        if self._files is None or not arguments.get("files"):
            return (await self._readiest.validate(arguments["prompt"], targets)).model_dump(mode="json")
        files = [InputFile.model_validate(file) for file in arguments["files"]]
        folders = arguments.get("folders") or {}
        async with self._files.supplied(arguments["prompt"], files, folders, patience=0.0) as prompt:
            return (await self._readiest.validate(prompt, targets)).model_dump(mode="json")

    @property
    def _readiest(self) -> Engine:
        """Who answers soonest: one that is idle."""
        standings = sorted(self._standings, key=lambda standing: READIEST.index(standing.state))
        engines = [standing.engine for standing in standings]
        return next((engine for engine in engines if engine.running), engines[0])
