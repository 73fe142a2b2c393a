"""How one engine of a worker stands: what the worker announces of it, and what it has been asked to do."""

from __future__ import annotations

import asyncio
import logging

from comfy_dist.engine import Engine
from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import AttemptFailed, Catalogue, Failed, Finished, Message, WorkerState
from comfy_dist.worker.progress import ProgressSender

log = logging.getLogger(__name__)


class Standing:
    """Kept by the engine's lane, read by the worker's presence."""

    def __init__(self, engine: Engine, changed: asyncio.Event) -> None:
        self.engine = engine
        #: Set on every change; shared by the worker's engines.
        self.changed = changed
        self.state = WorkerState.STARTING
        self.catalogue: Catalogue | None = None
        #: Whether files that its combos list may have changed since.
        self.stale = False
        self.progress: ProgressSender | None = None
        self.finished = self.failed = 0
        #: Set while memory is to be freed at the next idle moment.
        self.free_wanted = asyncio.Event()
        self._free: dict[str, bool] = {}
        #: Whether somebody asked for the end of the engine under this job: nobody is to blame for it then.
        self.replaced = False

    @property
    def device(self) -> str:
        devices = self.catalogue.devices if self.catalogue else ()
        return devices[0].name if devices else ""

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
        self.replaced = False
        self.progress = progress
        self.become(WorkerState.BUSY)

    def end(self, ending: Message | None) -> None:
        self.finished += isinstance(ending, Finished)
        self.failed += isinstance(ending, (Failed, AttemptFailed))
        self.progress = None
        self.changed.set()

    async def replace_engine(self) -> None:
        """End its process; the lane starts another. What runs waits again."""
        self.replaced = True
        await self.engine.kill()

    def ask_to_free(self, *, unload_models: bool, free_memory: bool) -> None:
        asked = {"unload_models": unload_models, "free_memory": free_memory}
        self._free = {key: value or self._free.get(key, False) for key, value in asked.items()}
        self.free_wanted.set()

    async def free_if_asked(self) -> None:
        """The idle moment that `ask_to_free` waits for."""
        if self.free_wanted.is_set():
            self.free_wanted.clear()
            wanted, self._free = self._free, {}
            try:
                await self.engine.free(**wanted)
            except ComfyDistError as error:
                log.warning("The memory could not be freed: %s", error)
