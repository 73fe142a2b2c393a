"""The child process of engine graph, which `main.py` starts.

The main thread executes prompts on one event loop that lives as long as the process. A reader thread takes
frames, sets the interrupt flag itself, and ends the process when the worker is gone. A third thread answers
catalogue and validate beside a running prompt.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import platform
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, TypeAlias

import torch
from pydantic_core import from_json

from comfy_dist import __version__
from comfy_dist.calls import running_job
from comfy_dist.engine.channel import Channel
from comfy_dist.engine.content_hash import short_hash
from comfy_dist.engine.graph import compat, running
from comfy_dist.engine.graph.cache_mode import CacheMode
from comfy_dist.engine.graph.caches import make_cache
from comfy_dist.engine.graph.checking import check_prompt
from comfy_dist.engine.graph.devices import devices, unusable
from comfy_dist.engine.graph.execution import Execution
from comfy_dist.engine.graph.failures import describe_failure
from comfy_dist.engine.graph.instances import Instances
from comfy_dist.engine.graph.interrupt import interrupt
from comfy_dist.engine.graph.object_info import object_info
from comfy_dist.engine.graph.packs import find_packs, load_packs
from comfy_dist.engine.graph.process_registry import registry
from comfy_dist.engine.graph.registry import Definitions, sentence
from comfy_dist.engine.protocol import NOT_OF_CALLS
from comfy_dist.nodes import folders, node_texts
from comfy_dist.workspace import Workspace, model_files

_log = logging.getLogger("comfy_dist.engine.graph")

#: How long a node may go on after the worker closed the pipe.
_END_SECONDS = 3.0

Frame: TypeAlias = tuple[dict[str, Any], bytes]


class _Sender:
    """Events as frames; several of them in one write."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.flush = channel.flush
        #: Whether the prompt is a call: of that nobody is told everything.
        self.of_call = False

    def event(self, event: str, data: dict[str, Any]) -> None:
        if self.of_call and event in NOT_OF_CALLS:
            return
        self._channel.queue({"op": "event", "event": event, "data": data})

    def preview(self, node: str, body: bytes) -> None:
        self._channel.queue({"op": "preview", "node": node}, body)

    def text(self, node: str, text: str) -> None:
        self._channel.queue({"op": "text", "node": node, "text": text})


class Process:
    """What the child holds: the nodes, the cache, and the prompt that runs."""

    def __init__(self, channel: Channel, cache: CacheMode) -> None:
        self._channel = channel
        self._sender = _Sender(channel)
        self._cache = make_cache(cache)
        self._instances = Instances()
        self._keeps_nothing = cache.kind == "none"
        self._workspace: Workspace | None = None
        self._web_folders: dict[str, Path] = {}
        self._execution: Execution | None = None
        self._current_job: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work: asyncio.Queue[Frame | None] = asyncio.Queue()
        self._questions: queue.SimpleQueue[Frame] = queue.SimpleQueue()

    def load(self, workspace: Workspace, *, save_metadata: bool) -> None:
        """Load the nodes. Packs may do anything, so the compatibility layer stands first."""
        self._workspace = workspace
        workspace.create()
        folders.use(workspace, save_metadata=save_metadata)
        node_texts.use(running.show_text)
        compat.install()
        from comfy_dist.nodes import core, families

        registry.add(core.NODE_CLASS_MAPPINGS, core.NODE_DISPLAY_NAME_MAPPINGS, "nodes")
        # As a stock ComfyUI names them, which has them of our pack.
        registry.add(
            families.NODE_CLASS_MAPPINGS, families.NODE_DISPLAY_NAME_MAPPINGS, "custom_nodes.comfy_dist_pack"
        )
        self._web_folders = load_packs(
            registry,
            find_packs(workspace.custom_nodes),
            lambda name: self._channel.send({"op": "loading", "pack": name}),
        )

    async def run(self, frames: Any) -> None:
        """Work until the worker closes the pipe."""
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(frames,), name="frames", daemon=True).start()
        threading.Thread(target=self._answer, name="answers", daemon=True).start()
        self._channel.send({"op": "ready", "catalogue": self.catalogue()})
        while (frame := await self._work.get()) is not None:
            header, body = frame
            if header["op"] == "execute":
                outcome = await self._execute(header["job"], header["attempt"], body)
                # Before the answer: with it the next job may come, and be interrupted.
                self._current_job = None
                self._channel.send({"op": "done", **outcome})
            else:
                self._free()
                self._channel.send({"op": "answer", "id": header["id"], "result": {}})

    async def _execute(self, job_id: str, attempt: int, body: bytes) -> dict[str, Any]:
        job = from_json(body)
        running_job.told = {"id": job_id, "attempt": attempt, "call": job.get("call"), "spread": job["spread"]}
        prompt = job["prompt"]
        extra_data = {"client_id": job.get("client_id")} | (job.get("extra_data") or {})
        self._sender.of_call = job.get("call") is not None
        started = time.time_ns() // 1_000_000
        try:
            definitions = Definitions(registry)
            verdict = check_prompt(prompt, job.get("outputs_to_execute") or None, definitions)
            wanted = set(job.get("outputs_to_execute") or ())
            if not verdict.valid or not wanted <= set(verdict.outputs):
                # An output that was promised is never left out in silence.
                return self._refused(job_id, prompt, verdict.model_dump(), started)
            self._execution = Execution(
                definitions,
                self._cache,
                Instances() if self._keeps_nothing else self._instances,
                self._sender,
                prompt=prompt,
                prompt_id=job_id,
                extra_data=extra_data,
                outputs=verdict.outputs,
            )
            with torch.inference_mode():
                return await self._execution.run()
        except BaseException as error:  # noqa: BLE001 - the worker must get an outcome, whatever went wrong
            _log.exception("Executing %s failed outside of a node", job_id)
            return self._error(job_id, started, "", "", describe_failure(error, None))
        finally:
            self._execution = None
            running_job.told = None

    def _refused(
        self, job_id: str, prompt: dict[str, Any], verdict: dict[str, Any], started: int
    ) -> dict[str, Any]:
        """The outcome of a prompt that this process cannot run, though it was accepted elsewhere."""
        first: tuple[str, dict[str, Any]] = next(iter(verdict["node_errors"].items()), ("", {}))
        node_id, found = first
        reasons = [f"{each['message']}: {each['details']}" for each in found.get("errors", ())]
        error = verdict["error"] or {
            "type": "prompt_outputs_failed_validation",
            "message": "Prompt outputs failed validation",
            "details": "",
        }
        message = f"{error['message']} {error['details']}".strip()
        failure = {
            "exception_message": "\n".join([message, *reasons]) + "\n",
            "exception_type": error["type"],
            "traceback": [],
            "current_inputs": {},
        }
        return self._error(job_id, started, node_id, found.get("class_type", ""), failure)

    def _error(
        self, job_id: str, started: int, node_id: str, node_type: str, failure: dict[str, Any]
    ) -> dict[str, Any]:
        start = {"prompt_id": job_id, "timestamp": started}
        where = {"prompt_id": job_id, "node_id": node_id, "node_type": node_type, "executed": []}
        more = {"current_outputs": [], "timestamp": time.time_ns() // 1_000_000}
        error = {**where, **failure, **more}
        self._sender.event("execution_start", start)
        self._sender.event("execution_error", error)
        messages = [("execution_start", start), ("execution_error", error)]
        return {"outcome": "errored", "error": error, "messages": messages}

    def _free(self) -> None:
        self._cache.clear()
        self._instances.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _read(self, frames: Any) -> None:
        """The reader thread."""
        assert self._loop is not None
        for frame in frames:
            header = frame[0]
            op = header["op"]
            if op == "execute":
                interrupt.requested = False
                self._current_job = header["job"]
                self._loop.call_soon_threadsafe(self._work.put_nowait, frame)
            elif op == "interrupt":
                if header["job"] == self._current_job:
                    self._interrupt()
            elif op == "free":
                self._loop.call_soon_threadsafe(self._work.put_nowait, frame)
            else:
                self._questions.put(frame)
        self._interrupt()
        self._loop.call_soon_threadsafe(self._work.put_nowait, None)
        time.sleep(_END_SECONDS)
        # A node that does not look up is left no longer: nobody waits for it.
        os._exit(0)

    def _interrupt(self) -> None:
        assert self._loop is not None
        interrupt.requested = True
        execution = self._execution
        if execution is not None:
            self._loop.call_soon_threadsafe(execution.wake)

    def _answer(self) -> None:
        """The thread that answers questions."""
        while True:
            header, body = self._questions.get()
            try:
                if header["op"] == "validate":
                    asked = from_json(body)
                    result = check_prompt(asked["prompt"], asked["targets"], Definitions(registry)).model_dump()
                else:
                    result = self.catalogue()
                answer: dict[str, Any] = {"result": result}
            except BaseException as error:  # noqa: BLE001 - who asked must get an answer
                _log.exception("The question %s failed", header["op"])
                answer = {"error": sentence(error)}
            self._channel.send({"op": "answer", "id": header["id"], **answer})

    def catalogue(self) -> dict[str, Any]:
        """The fields of a Catalogue, with folders as they are now."""
        assert self._workspace is not None
        nodes = object_info(registry)
        by_code = {node.name: node.validates for node in registry if node.validates is not None}
        content = {
            "nodes": nodes,
            "validated_by_code": {name: by_code[name] for name in nodes if name in by_code},
            "models": model_files(self._workspace.models),
            "web_directories": {
                name: path.relative_to(root).as_posix()
                for name, path in self._web_folders.items()
                for root in (self._workspace.root,)
                if path.is_relative_to(root)
            },
            "engine": "graph",
            "engine_version": __version__,
            "python_version": platform.python_version(),
            "pytorch_version": torch.__version__,
        }
        # Free memory changes all the time; a hash over it would say nothing.
        return {
            "hash": short_hash(content),
            "kind": short_hash(sorted(nodes)),
            **content,
            "devices": devices(),
        }


def main() -> None:
    channel = Channel.take_over()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", force=True
    )
    faulthandler.enable(all_threads=False)
    # Ctrl-C reaches the whole process group; the worker decides what becomes of the prompt.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    frames = channel.frames()
    header, _ = next(frames, ({}, b""))
    if not header:
        return
    if (why := unusable(header["device"])) is not None:
        channel.send({"op": "unable", "why": why})
        return
    process = Process(channel, CacheMode.model_validate(header["cache"]))
    process.load(Workspace.model_validate(header["workspace"]), save_metadata=header["save_metadata"])
    asyncio.run(process.run(frames))
    # Threads that a node left behind must not hold the process.
    sys.stderr.flush()
    os._exit(0)
