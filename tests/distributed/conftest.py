"""Workers that share graphs: real engines, started once, over one broker in one process."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from comfy_dist.engine import Engine
from comfy_dist.engine.graph import GraphEngine
from comfy_dist.messages import WorkerState
from comfy_dist.transport import Transport
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.worker import Worker
from comfy_dist.worker.presence import Identity
from comfy_dist.workspace import Workspace
from tests.distributed.graphs import placed, region
from tests.engines.conftest import COMFYUI_DIR
from tests.support.in_process import in_process
from tests.support.patience import PATIENCE
from tests.support.talking import Frontend, Prompt

#: These need a ComfyUI.
_STOCK = ("test_stock.py", "test_stock_worlds.py", "test_remote_stock.py", "test_stock_legion.py")
collect_ignore = [] if COMFYUI_DIR else [*_STOCK]
PACKS = Path(__file__).parents[1] / "packs"


@dataclass
class Ran:
    """An ended prompt, as its history has it."""

    status: str
    outputs: dict[str, Any]
    #: Of the node that failed, as the client was told.
    error: dict[str, Any]

    def shown(self, key: str) -> dict[str, list[Any]]:
        """What the output nodes showed under that key, by their ids."""
        return {id_: output[key] for id_, output in self.outputs.items() if key in output}

    @property
    def digests(self) -> dict[str, list[str]]:
        return self.shown("digest")


class Workers:
    """Workers w0, w1, … and a frontend; prompts are executed by w0, which asks the others for help."""

    def __init__(
        self, frontend: Frontend, workspace: Workspace, engines: Sequence[Engine], workers: Sequence[Worker]
    ) -> None:
        self.frontend = frontend
        self.workspace = workspace
        self.engines = engines
        self.workers = workers

    async def restarted(self, number: int, pid: int | None) -> None:
        """Wait until the engine that was that process is another one, and known to be idle."""
        engine = self.engines[number]
        assert isinstance(engine, GraphEngine)
        async with asyncio.timeout(PATIENCE):
            # It takes long enough for everybody to hear that it starts.
            while engine.pid in (None, pid) or not self.workers[number].healthy:
                await asyncio.sleep(0.05)
        await self.all_idle()

    async def all_idle(self) -> None:
        """Wait until each can take a call, and those know it that call others: they hear it by themselves.

        With patience for each, as one processor may start them all.
        """
        async with asyncio.timeout(PATIENCE * len(self.engines)):
            while _idle(await self.frontend.get("/distributed/workers")) < len(self.engines):
                await asyncio.sleep(0.05)
            while not all(self._knows_others_idle(worker) for worker in self.workers):
                await asyncio.sleep(0.05)

    def _knows_others_idle(self, worker: Worker) -> bool:
        """Who does not follow the others asks them all when it begins to."""
        peers = worker._desk._peers
        known = [each for each in peers._registry.workers if each.id != worker.id and not each.paused]
        idle = [each for each in known if each.state is WorkerState.IDLE]
        return not peers._called.is_set() or len(idle) == len(self.workers) - 1

    async def post(self, prompt: Prompt, parent: str | None = "w0") -> str:
        extra = {"worker": parent} if parent is not None else {}
        return await self.frontend.prompt(prompt, extra_data=extra)

    async def ended(self, prompt_id: str) -> Ran:
        entry = await self.frontend.ended(prompt_id)
        errors = [data for name, data in entry["status"]["messages"] if name == "execution_error"]
        return Ran(entry["status"]["status_str"], entry["outputs"], errors[0] if errors else {})

    async def run(self, prompt: Prompt, parent: str | None = "w0") -> Ran:
        """Its end, whatever it is."""
        return await self.ended(await self.post(prompt, parent))

    async def done(self, prompt: Prompt, parent: str | None = "w0") -> Ran:
        ran = await self.run(prompt, parent)
        error = ran.error
        why = f"{error.get('node_type')}: {error.get('exception_message')} {''.join(error.get('traceback', ()))}"
        assert ran.status == "success", why
        return ran


def _idle(answer: Any) -> int:
    return sum(worker["state"] == "idle" for worker in answer["workers"])


Make = Callable[[Workspace, int], Engine]


def graph_engine(workspace: Workspace, number: int) -> Engine:
    return GraphEngine(workspace, environment={"TEST_WORKER": str(number)})


@asynccontextmanager
async def working(
    folder: Path, count: int, join: Callable[[], Transport], make: Make, packs: Sequence[str] = (), **options: Any
) -> AsyncIterator[Workers]:
    """`packs`: those that there are besides. `options`: of each worker."""
    workspace = Workspace.at(folder / "workspace")
    workspace.create()
    for pack in ("distributed_nodes", "failing_nodes", "refining_nodes", *packs):
        shutil.copytree(PACKS / pack, workspace.custom_nodes / pack)
    engines = [make(workspace, number) for number in range(count)]
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(in_process(folder, join))
        frontend, _ = await cluster.frontend("f")
        participants: list[Worker] = []
        for number, engine in enumerate(engines):
            identity = Identity.make(f"w{number}", ())
            worker = Worker(identity, join(), [engine], workspace, second_look=0.1, **options)
            participants.append(worker)
            serving = asyncio.create_task(worker.serve())
            stack.push_async_callback(_drained, worker, serving)
        workers = Workers(frontend, workspace, engines, participants)
        await workers.all_idle()
        # The first region that w0 executes makes it look who is there.
        await workers.done(placed(region("Image", batch=1), 8))
        yield workers


async def _drained(worker: Worker, serving: asyncio.Task[None]) -> None:
    worker.drain()
    await asyncio.wait_for(serving, PATIENCE)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def eight(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    broker = MemoryBroker()
    folder = tmp_path_factory.mktemp("eight")
    async with working(folder, 8, lambda: MemoryTransport(broker), graph_engine) as workers:
        yield workers


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def three(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    """For all files of this folder that want three, on the loop that their tests are on."""
    broker = MemoryBroker()
    folder = tmp_path_factory.mktemp("three")
    async with working(folder, 3, lambda: MemoryTransport(broker), graph_engine) as workers:
        yield workers
