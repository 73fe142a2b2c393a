"""How one engine of a worker stands: what the worker announces of it, and what it has been asked to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from comfy_dist.engine import Engine
from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import (
    ANYBODY,
    AttemptFailed,
    Catalogue,
    Failed,
    Finished,
    Job,
    Message,
    Prompt,
    Requirements,
    WorkerState,
)
from comfy_dist.routing import Offer, models_of, needs_of
from comfy_dist.worker.attention import Attention
from comfy_dist.worker.pace import Pace
from comfy_dist.worker.progress import ProgressSender

#: Model files that an engine is taken to have in memory.
MODELS_KEPT = 16

log = logging.getLogger(__name__)


class Standing:
    """Kept by the engine's lane, read by the worker's presence."""

    def __init__(self, engine: Engine, changed: asyncio.Event, name: str = "", tags: Sequence[str] = ()) -> None:
        """`name` and `tags` are the worker's."""
        self.engine = engine
        #: Calls the lane when something is to be done before the next job.
        self.attention = Attention()
        self._name = name
        self._tags = frozenset(tags)
        #: Set on every change; shared by the worker's engines.
        self.changed = changed
        self.state = WorkerState.STARTING
        self.catalogue: Catalogue | None = None
        #: Whether files that its combos list may have changed since.
        self.stale = False
        self.progress: ProgressSender | None = None
        self.finished = self.failed = 0
        self.pace = Pace()
        #: Model files of the last jobs, the newest first.
        self.models: tuple[str, ...] = ()
        #: Set while memory is to be freed at the next idle moment.
        self.free_wanted = asyncio.Event()
        self._free: dict[str, bool] = {}
        #: Whether somebody asked for the end of the engine under this job: nobody is to blame for it then.
        self.replaced = False
        #: Workers that nodes of the job in hand wait for to begin their calls.
        self.waits_for: dict[str, tuple[str, ...]] = {}
        #: Whether that job is to be given back, so that one which waits for this worker goes first.
        self.gives_way = False

    @property
    def device(self) -> str:
        devices = self.catalogue.devices if self.catalogue else ()
        return devices[0].name if devices else ""

    @property
    def offer(self) -> Offer | None:
        """What jobs may ask of this engine; None before it has shown what it can run."""
        if self.catalogue is None:
            return None
        devices = self.catalogue.devices
        return Offer(
            worker=self._name,
            catalogue=self.catalogue,
            tags=self._tags,
            vram=devices[0].vram_total if devices else 0,
        )

    def needs(self, job: Job) -> Requirements:
        """What the job asks of an engine, as far as this one's catalogue tells."""
        asked = job.requirements or ANYBODY
        return asked if self.catalogue is None else needs_of(job.prompt, self.catalogue).joined(asked)

    def become(self, state: WorkerState) -> None:
        if state is not self.state:
            self.state = state
            self.changed.set()

    def learn(self, catalogue: Catalogue) -> None:
        """What the engine can run now."""
        if self.catalogue is None or catalogue.hash != self.catalogue.hash:
            self.catalogue = catalogue
            self.changed.set()

    async def learn_anew(self) -> None:
        """Take the catalogue again; one that cannot be had now stays stale."""
        self.stale = False
        try:
            self.learn(await self.engine.catalogue())
        except ComfyDistError as error:
            self.stale = True
            log.debug("The catalogue could not be taken anew: %s", error)

    def begin(self, progress: ProgressSender) -> None:
        self.replaced = self.gives_way = False
        self.progress = progress
        self.become(WorkerState.BUSY)

    def end(self, prompt: Prompt, ending: Message | None) -> None:
        """A job has ended here."""
        if self.catalogue is not None and isinstance(ending, (Finished, Failed)):
            used = models_of(needs_of(prompt, self.catalogue), self.catalogue)
            self.models = (*used, *(name for name in self.models if name not in used))[:MODELS_KEPT]
        if isinstance(ending, Finished):
            self.finished += 1
            self.pace.count()
        self.failed += isinstance(ending, (Failed, AttemptFailed))
        self.progress = None
        self.waits_for = {}
        self.changed.set()

    def wait_for(self, node: str, workers: Sequence[str]) -> None:
        self.waits_for = {name: each for name, each in self.waits_for.items() if name != node}
        if workers:
            self.waits_for[node] = tuple(workers)
        self.changed.set()

    async def replace_engine(self) -> None:
        """End its process; the lane starts another. What runs waits again."""
        self.replaced = True
        await self.engine.kill()

    def ask_to_free(self, *, unload_models: bool, free_memory: bool) -> None:
        asked = {"unload_models": unload_models, "free_memory": free_memory}
        if unload_models or free_memory:
            self.models = ()
        self._free = {key: value or self._free.get(key, False) for key, value in asked.items()}
        self.free_wanted.set()
        self.attention.call()

    async def free_if_asked(self) -> None:
        """The idle moment that `ask_to_free` waits for."""
        if self.free_wanted.is_set():
            self.free_wanted.clear()
            wanted, self._free = self._free, {}
            try:
                await self.engine.free(**wanted)
            except ComfyDistError as error:
                log.warning("The memory could not be freed: %s", error)
