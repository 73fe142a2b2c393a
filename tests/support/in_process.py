"""Frontends and workers of one process, with engines that do what a prompt's class says, at once or until told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from comfy_dist.engine import Emit, EngineDied, Executed, Interrupted, Outcome
from comfy_dist.frontend.service import frontend, serve
from comfy_dist.messages import Catalogue, Device, Job, Prompt
from comfy_dist.settings import ComfyuiSettings
from comfy_dist.transport import Transport
from comfy_dist.validation import Validation
from comfy_dist.worker import Worker
from comfy_dist.worker.lane import Limits
from comfy_dist.worker.legion_processes import MakeEngine
from comfy_dist.worker.plane_place import PlanePlace
from comfy_dist.worker.presence import Identity
from comfy_dist.workspace import Workspace
from tests.support.patience import PATIENCE
from tests.support.talking import Frontend, node

#: Ends at once, when it is interrupted, never but with its engine.
CLASSES = ("Quick", "Wait", "Die")


def prompt(class_type: str) -> Prompt:
    return {"1": node(class_type, text="")}


def _definition(name: str) -> dict[str, Any]:
    return {
        "input": {"required": {"text": ["STRING", {}]}},
        "input_order": {"required": ["text"]},
        "output": [],
        "output_is_list": [],
        "output_name": [],
        "name": name,
        "display_name": name,
        "description": "",
        "python_module": "tests",
        "category": "testing",
        "output_node": True,
    }


@dataclass
class Stage:
    """What the engines did: (worker's name, job) of each execution, in order."""

    executed: list[tuple[str, str]] = field(default_factory=list)
    #: The same jobs, whole, by id.
    jobs: dict[str, Job] = field(default_factory=dict)


class Obedient:
    """An engine that executes the class of node 1. `frees` counts how often its memory was freed."""

    name = "obedient"
    own_files = False
    #: A prompt of these classes needs no plan.
    linked = False

    def __init__(self, worker: str, stage: Stage) -> None:
        self._worker = worker
        self._stage = stage
        self._interrupted = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self.starts = self.frees = 0
        #: How whoever plays a node of it reaches its worker.
        self.environment: Mapping[str, str] = {}

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    def link(self, environment: Mapping[str, str]) -> None:
        self.environment = environment

    async def start(self) -> Catalogue:
        if not self.running:
            self.starts += 1
            self._ended.clear()
        return await self.catalogue()

    async def catalogue(self) -> Catalogue:
        nodes = {name: _definition(name) for name in CLASSES}
        return Catalogue(hash="h", kind="k", nodes=nodes, devices=(Device(name="cpu", type="cpu"),))

    async def validate(self, prompt: Prompt, targets: tuple[str, ...] | None) -> Validation:
        return Validation(valid=True, outputs=("1",))

    async def execute(self, job: Job, emit: Emit, *, attempt: int = 1) -> Outcome:
        self._stage.executed.append((self._worker, job.id))
        self._stage.jobs[job.id] = job
        self._interrupted.clear()
        data = {"prompt_id": job.id, "node_id": "1"}
        match job.prompt["1"]["class_type"]:
            case "Quick":
                return Executed(messages=(("execution_success", data),))
            case "Die":
                self._ended.set()
                raise EngineDied("The engine exited with code 9 at node 1 (Die).", "1", "exited with code 9")
        ways = [asyncio.create_task(event.wait()) for event in (self._interrupted, self._ended)]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
        if self._ended.is_set():
            raise EngineDied("The engine was ended by signal 9 at node 1 (Wait).", "1", "was ended by signal 9")
        return Interrupted(messages=(("execution_interrupted", data),))

    async def interrupt(self, job_id: str) -> None:
        self._interrupted.set()

    async def free(self, *, unload_models: bool, free_memory: bool) -> None:
        self.frees += 1

    async def ended(self) -> None:
        await self._ended.wait()

    async def kill(self) -> None:
        self._ended.set()

    async def close(self) -> None:
        self._ended.set()


@dataclass
class Running:
    """A worker that serves until it is drained."""

    worker: Worker
    engines: list[Obedient]
    serving: asyncio.Task[None]

    async def stop(self) -> None:
        self.worker.drain()
        await asyncio.wait_for(self.serving, PATIENCE)


class Cluster:
    """Starts frontends and workers, each with a transport of its own."""

    def __init__(self, folder: Path, join: Callable[[], Transport], stack: AsyncExitStack) -> None:
        self.stage = Stage()
        self._folder = folder
        self._join = join
        self._stack = stack
        self._session: aiohttp.ClientSession | None = None

    async def worker(
        self,
        name: str,
        engines: int = 1,
        *,
        engine: Callable[[str, Stage], Obedient] = Obedient,
        call_timeout: float | None = None,
        plane: PlanePlace = PlanePlace(),  # noqa: B008 - frozen
        legion: tuple[MakeEngine, float] | None = None,
        **limits: Any,
    ) -> Running:
        made = [engine(name, self.stage) for _ in range(engines)]
        workspace = Workspace.at(self._folder / f"worker-{name}")
        workspace.create()
        worker = Worker(
            Identity.make(name, ()),
            self._join(),
            made,
            workspace,
            Limits(**limits),
            second_look=0.1,
            plane=plane,
            call_timeout=call_timeout,
            legion_engine=legion[0] if legion else None,
            legion_idle=legion[1] if legion else 600.0,
        )
        serving = asyncio.create_task(worker.serve())
        self._stack.push_async_callback(_stop, serving)
        return Running(worker, made, serving)

    async def frontend(self, name: str, **settings: Any) -> tuple[Frontend, Callable[[], Any]]:
        """A frontend, and what stops it: started again under its name it has the same state folder."""
        if self._session is None:
            self._session = await self._stack.enter_async_context(aiohttp.ClientSession())
        up: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        down = asyncio.Event()
        serving = asyncio.create_task(self._serve(name, settings, up, down))
        self._stack.push_async_callback(_stop, serving)
        await asyncio.wait([up, serving], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()

        async def stop() -> None:
            down.set()
            await serving

        return Frontend(up.result(), self._session), stop

    async def _serve(
        self, name: str, settings: dict[str, Any], up: asyncio.Future[str], down: asyncio.Event
    ) -> None:
        workspace = Workspace.at(self._folder / f"frontend-{name}")
        workspace.create()
        state = workspace.root / "state"
        state.mkdir(exist_ok=True)
        transport = self._join()
        await transport.open()
        try:
            made = ComfyuiSettings(cwd=workspace.root, port=0, **settings)
            async with frontend(made, workspace, state, transport) as follower:
                runner, urls = await serve(follower)
                try:
                    up.set_result(urls[0])
                    await down.wait()
                finally:
                    await runner.cleanup()
        finally:
            await transport.close()


async def _stop(task: asyncio.Task[None]) -> None:
    """Whatever ended it before is raised."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@asynccontextmanager
async def in_process(folder: Path, join: Callable[[], Transport]) -> AsyncIterator[Cluster]:
    """A cluster of the participants that `join` makes, one each call."""
    async with AsyncExitStack() as stack:
        yield Cluster(folder, join, stack)
