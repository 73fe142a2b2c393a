"""Engine comfyui, from the worker's side."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pydantic import ValidationError

from comfy_dist.engine.comfyui.address import Address
from comfy_dist.engine.comfyui.catalogue import take_catalogue
from comfy_dist.engine.comfyui.listening import WORKERS, Listener
from comfy_dist.engine.comfyui.outcomes import HistoryEntry, failed
from comfy_dist.engine.comfyui.publishing import Publisher, Source
from comfy_dist.engine.comfyui.run import Lost, Run
from comfy_dist.engine.comfyui.server import Server, ServerFault, Submission, Unreachable
from comfy_dist.engine.comfyui.uploading import Uploader
from comfy_dist.engine.comfyui.versions import version_of
from comfy_dist.engine.protocol import Emit, EngineDied, Outcome
from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import Catalogue, Job, Prompt
from comfy_dist.validation import Validation, validate_prompt
from comfy_dist.workspace import Workspace

_log = logging.getLogger(__name__)

#: Between two tries to reach one that starts.
_POLL_SECONDS = 0.2
_FIRST_ANSWER_SECONDS = 10.0
#: How long is waited for the news that the process has ended, when it answers no more.
_NEWS_SECONDS = 3.0


class Host(Protocol):
    """Where a ComfyUI comes from: started here, or there already."""

    private: bool
    separate: tuple[str, ...]
    start_seconds: float
    patience: float

    @property
    def where(self) -> str: ...

    async def start(self, ended: Callable[[str], None]) -> Address: ...

    def source(self, server: Server) -> Source: ...

    def link(self, environment: Mapping[str, str]) -> bool:
        """Whether its process will know it."""
        ...

    async def kill(self) -> bool: ...

    async def close(self) -> None: ...


class _Connection:
    """What is held while one ComfyUI runs: it is made anew when that has ended."""

    def __init__(self, server: Server, listener: Listener, workspace: Workspace, host: Host) -> None:
        self.server = server
        self.listener = listener
        self.publisher = Publisher(workspace, host.source(server))
        self.uploader = Uploader(workspace, server, host.separate)
        self.pack: dict[str, Any] | None = None
        #: Ids of prompts that it was given and that have no outcome yet.
        self.unfinished: set[str] = set()

    async def close(self) -> None:
        await self.listener.close()
        await self.server.session.close()


class ComfyuiEngine:
    """Executes prompts in a stock ComfyUI that `host` starts or names."""

    name = "comfyui"
    own_files = True

    def __init__(self, workspace: Workspace, host: Host) -> None:
        self._workspace = workspace
        self._host = host
        self._connection: _Connection | None = None
        self._catalogue: Catalogue | None = None
        self._has_link = False
        #: How this ComfyUI ended.
        self._ended: asyncio.Future[str] | None = None
        self._starting = asyncio.Lock()
        self._turn = asyncio.Lock()
        self._run: Run | None = None
        #: Why the running prompt is waited for no longer.
        self._death: asyncio.Future[str] | None = None

    @property
    def linked(self) -> bool:
        return self._has_link and self._connection is not None and self._connection.pack is not None

    def link(self, environment: Mapping[str, str]) -> None:
        self._has_link = self._host.link(environment)

    @property
    def running(self) -> bool:
        return self._connection is not None and self._ended is not None and not self._ended.done()

    async def start(self) -> Catalogue:
        async with self._starting:
            if self.running and self._catalogue is not None:
                return self._catalogue
            await self._disconnect()
            ended = self._ended = asyncio.get_running_loop().create_future()
            connection: _Connection | None = None
            try:
                address = await self._host.start(lambda how: self._on_end(ended, how))
                connection = self._connect(address, ended)
                stats = await self._first_answer(connection.server, ended)
                version = version_of(stats, self._host.where)
                await connection.listener.open()
                connection.pack = await connection.server.about_pack()
                self._catalogue = await self._take_catalogue(connection, stats)
            except BaseException:
                if connection is not None:
                    await connection.close()
                await self._host.kill()
                raise
            self._connection = connection
            pack = "" if connection.pack else ", without comfy_dist's node pack"
            _log.info("%s is version %s%s.", self._host.where, version, pack)
            return self._catalogue

    def _connect(self, address: Address, ended: asyncio.Future[str]) -> _Connection:
        server = Server(address, address.session())
        listener = Listener(
            server,
            self,
            patience=self._host.patience,
            gone=lambda why: self._on_end(ended, f"is out of reach ({why.rstrip('.')})"),
        )
        return _Connection(server, listener, self._workspace, self._host)

    async def _first_answer(self, server: Server, ended: asyncio.Future[str]) -> dict[str, Any]:
        """Its /system_stats. Raises ComfyDistError where it ends before, or does not answer in time."""
        end = time.monotonic() + self._host.start_seconds
        while True:
            try:
                return await server.system_stats(min(_FIRST_ANSWER_SECONDS, self._host.start_seconds))
            except Unreachable:
                if ended.done():
                    raise ComfyDistError(
                        f"{self._host.where} {ended.result()} while it started; its log says why."
                    ) from None
                if time.monotonic() > end:
                    raise
            await asyncio.wait([ended], timeout=_POLL_SECONDS)

    async def _take_catalogue(self, connection: _Connection, stats: Mapping[str, Any]) -> Catalogue:
        root = self._workspace.root if self._host.private else None
        return await take_catalogue(connection.server, stats, connection.pack, root)

    async def catalogue(self) -> Catalogue:
        connection = self._connected()
        stats = await connection.server.system_stats()
        self._catalogue = await self._take_catalogue(connection, stats)
        return self._catalogue

    async def validate(self, prompt: Prompt, targets: tuple[str, ...] | None) -> Validation:
        connection, catalogue = self._connected(), self._catalogue
        assert catalogue is not None
        prompt = await connection.uploader.prepare(prompt, catalogue.nodes)
        if connection.pack is None:
            return validate_prompt(
                copy.deepcopy(prompt),
                catalogue.nodes,
                targets=targets,
                validated_by_code=catalogue.validated_by_code,
            )
        try:
            return Validation.model_validate(await connection.server.validate(prompt, targets))
        except ValidationError:
            raise ServerFault(f"The node pack of {self._host.where} is another version; update it.") from None

    async def execute(self, job: Job, emit: Emit, *, attempt: int = 1) -> Outcome:
        async with self._turn:
            connection = self._connected()
            run = self._run = Run(job, server=connection.server, publisher=connection.publisher, emit=emit)
            death = self._death = asyncio.get_running_loop().create_future()
            following = asyncio.create_task(self._follow(run, connection))
            try:
                await asyncio.wait([following, death], return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    outcome = await self._outcome(run, following, death)
                    connection.unfinished.discard(job.id)
                    return outcome
                raise self._died(death.result(), run)
            except asyncio.CancelledError:
                await run.interrupt()
                raise
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                self._run = self._death = None

    async def _follow(self, run: Run, connection: _Connection) -> Outcome:
        job, server = run.job, connection.server
        if (not self._host.private or job.id in connection.unfinished) and await self._known(run, server):
            run.adopt()
            return await run.follow()
        connection.unfinished.add(job.id)
        await connection.listener.renew()

        async def submit() -> Submission:
            assert self._catalogue is not None
            prompt = await connection.uploader.prepare(job.prompt, self._catalogue.nodes)
            return await server.submit(
                prompt, run.id, connection.listener.client_id, job.extra_data, job.outputs_to_execute
            )

        async def submit_with_files() -> Submission:
            submission = await submit()
            if submission.error is not None and connection.uploader.forget():
                submission = await submit()
            return submission

        return await run.begin(submit_with_files) or await run.follow()

    async def _known(self, run: Run, server: Server) -> bool:
        """Whether an earlier attempt of a worker's is to be waited for, or read; else the run has a free id."""
        item, entry = await asyncio.gather(server.queued(run.id), server.history(run.id))
        if item is not None and _is_workers(item):
            return True
        if entry is not None and _is_workers(entry.get("prompt")) and HistoryEntry.of(entry).succeeded:
            return True
        if item is not None or entry is not None:
            run.id = f"{run.job.id}-{uuid.uuid4().hex[:8]}"
        return False

    async def _outcome(self, run: Run, following: asyncio.Task[Outcome], death: asyncio.Future[str]) -> Outcome:
        """The task's outcome. Raises EngineDied for whatever kept it from one."""
        try:
            return following.result()
        except Unreachable as fault:
            # Most often because it has just ended, and how is known in a moment.
            await asyncio.wait([death], timeout=_NEWS_SECONDS)
            if death.done():
                raise self._died(death.result(), run) from None
            raise EngineDied(str(fault), run.node) from None
        except Lost as lost:
            raise self._died(str(lost), run) from None
        except ServerFault as fault:
            await run.interrupt()
            raise EngineDied(str(fault), run.node) from None
        except OSError as error:
            return failed(run.job, f"A file that the prompt reads cannot be read: {error}.", type(error).__name__)

    def _died(self, how: str, run: Run) -> EngineDied:
        if run.node is None:
            return EngineDied(f"{self._host.where} {how} before the first node.", how=how)
        node = run.job.prompt.get(run.node)
        class_type = node.get("class_type") if isinstance(node, dict) else None
        sentence = f"{self._host.where} {how} while executing node {run.node} ({class_type})."
        return EngineDied(sentence, run.node, how)

    async def interrupt(self, job_id: str) -> None:
        if self._run is not None and self._run.job.id == job_id:
            await self._run.interrupt()

    async def free(self, *, unload_models: bool, free_memory: bool) -> None:
        """While a prompt runs, ComfyUI does it after that."""
        try:
            await self._connected().server.free(unload_models=unload_models, free_memory=free_memory)
        except ServerFault as fault:
            _log.warning("The memory could not be freed: %s", fault)

    async def ended(self) -> None:
        if self.running and self._ended is not None:
            await asyncio.wait([self._ended])

    async def kill(self) -> None:
        """One that was only attached is told to stop, and its prompt waited for no longer."""
        if await self._host.kill():
            return
        if self._run is not None and self._death is not None:
            run = self._run
            _settle(self._death, "did not stop when it was told to, and is left to itself")
            await run.interrupt()

    async def close(self) -> None:
        await self._disconnect()
        await self._host.close()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _connected(self) -> _Connection:
        if self._connection is None or not self.running:
            raise EngineDied(f"{self._host.where} is not running; start it first.")
        return self._connection

    def _on_end(self, ended: asyncio.Future[str], how: str) -> None:
        """This ComfyUI has ended: whoever waits for it learns how."""
        _settle(ended, how)
        if ended is self._ended and self._death is not None:
            _settle(self._death, how)

    # What the listener hears, for the prompt that runs.

    def on_event(self, event: str, data: dict[str, Any]) -> None:
        if self._run is not None:
            self._run.on_event(event, data)

    def on_binary(self, body: bytes) -> None:
        if self._run is not None:
            self._run.on_binary(body)

    def on_gap(self) -> None:
        if self._run is not None:
            self._run.on_gap()


def _settle(future: asyncio.Future[str], value: str) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):
        future.set_result(value)


def _is_workers(item: Any) -> bool:
    """Whether an item of the queue or history (number, id, prompt, extra_data, …) was submitted by a worker."""
    extra_data = item[3] if isinstance(item, list) and len(item) > 3 else None
    return isinstance(extra_data, dict) and str(extra_data.get("client_id", "")).startswith(WORKERS)
