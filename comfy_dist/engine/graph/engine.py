"""Engine graph, from the worker's side: our executor in a child process."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfy_dist.engine.child import Child, describe_exit
from comfy_dist.engine.frames import encode_json
from comfy_dist.engine.graph.cache_mode import CacheMode
from comfy_dist.engine.protocol import (
    Emit,
    EngineDied,
    EngineEvent,
    Errored,
    Executed,
    Interrupted,
    NodeText,
    Outcome,
    Preview,
)
from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import Catalogue, Job, Prompt
from comfy_dist.validation import Validation
from comfy_dist.workspace import Workspace

_log = logging.getLogger(__name__)

_OUTCOMES: Mapping[str, type[Executed | Errored | Interrupted]] = {
    "executed": Executed,
    "errored": Errored,
    "interrupted": Interrupted,
}


class _Run:
    """The prompt that the child executes."""

    def __init__(self, job: Job, emit: Emit) -> None:
        self.job = job
        self.emit = emit
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        #: The node whose code ran last, by display id.
        self.node: str | None = None


class GraphEngine:
    """Executes prompts in a child process on one device.

    `device` is "cpu", the index of a CUDA device, or "auto" for what there is; `cache` says what
    outputs are kept; `disable_metadata` keeps prompts out of saved files; `environment` is added to the child's.
    """

    name = "graph"
    own_files = False

    def __init__(
        self,
        workspace: Workspace,
        *,
        device: str = "cpu",
        cache: CacheMode = CacheMode(),  # noqa: B008 - frozen
        disable_metadata: bool = False,
        environment: Mapping[str, str] | None = None,
        start_timeout: float = 600.0,
    ) -> None:
        self._workspace = workspace
        self._device = device
        self._cache = cache
        self._disable_metadata = disable_metadata
        self._environment = environment or {}
        self._link: Mapping[str, str] = {}
        self._start_timeout = start_timeout
        self._child: Child | None = None
        self._catalogue: Catalogue | None = None
        self._ready: asyncio.Future[Catalogue] | None = None
        #: The node pack whose code was run last as the child started.
        self._pack: str | None = None
        self._starting = asyncio.Lock()
        self._run: _Run | None = None
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count(1)

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return self._child.pid if self._child is not None and self._child.alive else None

    @property
    def linked(self) -> bool:
        return bool(self._link)

    def link(self, environment: Mapping[str, str]) -> None:
        self._link = environment

    @property
    def running(self) -> bool:
        return self.pid is not None

    async def start(self) -> Catalogue:
        async with self._starting:
            if self._catalogue is not None and self._child is not None and self._child.alive:
                return self._catalogue
            self._ready = asyncio.get_running_loop().create_future()
            self._pack = None
            child = self._child = await Child.spawn(
                [sys.executable, "-P", "-m", "comfy_dist.engine.graph.main"],
                environment=self._child_environment(),
                cwd=str(self._workspace.root) if self._workspace.root.is_dir() else None,
                log=_log,
                on_frame=self._on_frame,
            )
            child.on_end(lambda code: self._on_end(child, code))
            child.send(
                {
                    "device": self._device,
                    "workspace": self._workspace.model_dump(mode="json"),
                    "cache": self._cache.model_dump(mode="json"),
                    "save_metadata": not self._disable_metadata,
                }
            )
            try:
                self._catalogue = await asyncio.wait_for(self._ready, self._start_timeout)
            except BaseException as error:
                child.kill()
                await child.ended()
                if isinstance(error, TimeoutError):
                    raise ComfyDistError(
                        f"Engine graph was not ready within {self._start_timeout:.0f} s{self._loading()}."
                    ) from error
                raise
            return self._catalogue

    async def catalogue(self) -> Catalogue:
        self._catalogue = Catalogue.model_validate(await self._ask("catalogue"))
        return self._catalogue

    async def validate(self, prompt: Prompt, targets: tuple[str, ...] | None) -> Validation:
        body = encode_json({"prompt": prompt, "targets": targets})
        return Validation.model_validate(await self._ask("validate", body))

    async def execute(self, job: Job, emit: Emit, *, attempt: int = 1) -> Outcome:
        while self._run is not None:
            # Its execute() was cancelled, and the child has not got to the end of it yet.
            await asyncio.wait([self._run.outcome])
        if self._child is None or not self._child.alive:
            raise EngineDied("Engine graph is not running; start it first.")
        run = self._run = _Run(job, emit)
        self._child.send({"op": "execute", "job": job.id, "attempt": attempt}, job.to_bytes())
        try:
            return await asyncio.shield(run.outcome)
        except asyncio.CancelledError:
            run.emit = lambda _: None
            await self.interrupt(job.id)
            raise

    async def interrupt(self, job_id: str) -> None:
        if self._child is not None:
            self._child.send({"op": "interrupt", "job": job_id})

    async def free(self, *, unload_models: bool, free_memory: bool) -> None:
        """Forget cached outputs; while a prompt runs, after it, without waiting for that."""
        if not (unload_models or free_memory):
            return
        if self._run is None:
            await self._ask("free")
        elif self._child is not None:
            self._child.send({"op": "free", "id": 0})

    async def ended(self) -> None:
        if self._child is not None:
            await self._child.ended()

    async def kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            await self._child.ended()

    async def close(self) -> None:
        if self._child is not None:
            await self._child.stop()

    async def _ask(self, op: str, body: bytes = b"") -> Any:
        """Put a question to the child beside what it executes."""
        if self._child is None or not self._child.alive:
            raise EngineDied("Engine graph is not running; start it first.")
        number = next(self._ids)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self._child.send({"op": op, "id": number}, body)
        try:
            return await answer
        finally:
            self._asked.pop(number, None)

    def _on_frame(self, header: dict[str, Any], body: bytes) -> None:
        op = header["op"]
        run = self._run
        if op == "event":
            if run is not None:
                event, data = header["event"], header["data"]
                if event == "executing":
                    run.node = data.get("display_node", run.node)
                run.emit(EngineEvent(event, data))
        elif op == "preview":
            if run is not None:
                run.emit(Preview(header["node"], body))
        elif op == "text":
            if run is not None:
                run.emit(NodeText(header["node"], header["text"]))
        elif op == "done":
            if run is not None:
                self._run = None
                del header["op"]
                run.outcome.set_result(_OUTCOMES[header.pop("outcome")].model_validate(header))
        elif op == "answer":
            asked = self._asked.get(header["id"])
            if asked is not None and not asked.done():
                if "error" in header:
                    asked.set_exception(ComfyDistError(f"Engine graph could not answer: {header['error']}"))
                else:
                    asked.set_result(header["result"])
        elif op == "loading":
            self._pack = header["pack"]
        elif op == "ready" and self._ready is not None and not self._ready.done():
            self._ready.set_result(Catalogue.model_validate(header["catalogue"]))
        elif op == "unable" and self._ready is not None and not self._ready.done():
            self._ready.set_exception(ComfyDistError(header["why"]))

    def _on_end(self, child: Child, code: int) -> None:
        """The child has ended: whoever waits for it learns how."""
        if child is not self._child:
            return
        exit_ = describe_exit(code)
        how = f"The process of engine graph {exit_}"
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(
                ComfyDistError(f"{how} while it started{self._loading()}; its log says why.")
            )
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(EngineDied(f"{how}."))
        run, self._run = self._run, None
        if run is not None:
            if run.node is None:
                sentence = f"{how} before the first node."
            else:
                node = run.job.prompt.get(run.node)
                class_type = node.get("class_type") if isinstance(node, dict) else None
                sentence = f"{how} while executing node {run.node} ({class_type})."
            run.outcome.set_exception(EngineDied(sentence, run.node, exit_))
            # Its execute() may have been cancelled; then nobody asks.
            run.outcome.exception()

    def _loading(self) -> str:
        """What the child was at as it started, as the end of a sentence."""
        return "" if self._pack is None else f", with the code of the node pack {self._pack}"

    def _child_environment(self) -> dict[str, str]:
        package_root = str(Path(__file__).resolve().parents[3])
        python_path = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
        # Nodes are other people's code: settings, the broker's password among them, stay with the worker.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("COMFYUI_")}
        if self._device != "auto":
            inherited["CUDA_VISIBLE_DEVICES"] = "" if self._device == "cpu" else self._device
        return {**inherited, "PYTHONPATH": python_path, "PYTHONUNBUFFERED": "1", **self._link, **self._environment}
