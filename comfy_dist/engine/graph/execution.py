"""One execution of one prompt: ComfyUI's order, events and errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from comfy_dist.engine.graph import running
from comfy_dist.engine.graph.cache import Cached, ClassicCache
from comfy_dist.engine.graph.cache_keys import CacheKey, add_keys, node_key
from comfy_dist.engine.graph.dynamic_prompt import DynamicPrompt
from comfy_dist.engine.graph.expansion import Expansion, add_expansion, resolve
from comfy_dist.engine.graph.failures import (
    OUT_OF_MEMORY_TIPS,
    DependencyCycleError,
    NodeFailed,
    describe_block,
    describe_failure,
    is_out_of_memory,
)
from comfy_dist.engine.graph.fingerprints import fingerprints
from comfy_dist.engine.graph.inputs import InputLists, collect_inputs, hidden_inputs
from comfy_dist.engine.graph.interrupt import InterruptProcessingException, interrupt
from comfy_dist.engine.graph.invoke import call_node, lazy_inputs_wanted, settled
from comfy_dist.engine.graph.links import ExecutionBlocker, is_link
from comfy_dist.engine.graph.mapping import merge, merge_ui
from comfy_dist.engine.graph.node_class import NodeClass
from comfy_dist.engine.graph.order import ExecutionOrder
from comfy_dist.engine.graph.progress import NodeProgress
from comfy_dist.engine.graph.registry import Definitions
from comfy_dist.engine.graph.returns import read_return

_ABANDON_SECONDS = 5.0


class Sender(Protocol):
    """Where events go."""

    def event(self, event: str, data: dict[str, Any]) -> None:
        """Send with the next flush."""
        ...

    def preview(self, node: str, body: bytes) -> None: ...

    def flush(self) -> None: ...


@dataclass(slots=True)
class _Running:
    """An async node's calls, not all of them done."""

    results: list[Any]
    values: InputLists
    started: float
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)


class Execution:
    """Made for one prompt; `run` it once."""

    def __init__(
        self,
        definitions: Definitions,
        cache: ClassicCache,
        sender: Sender,
        *,
        prompt: dict[str, Any],
        prompt_id: str,
        extra_data: Mapping[str, Any],
        outputs: Iterable[str],
    ) -> None:
        self._cache = cache
        self._sender = sender
        self._prompt_id = prompt_id
        self._extra_data = extra_data
        self._outputs = tuple(outputs)
        self._definitions = definitions
        self._prompt = DynamicPrompt(prompt)
        self._progress = NodeProgress(prompt_id, self._prompt, sender.event, sender.preview)
        self._order = ExecutionOrder(self._sources, self._is_cached, self._is_urgent, self._is_output)
        self._keys: dict[str, CacheKey] = {}
        self._fingerprints: dict[str, Any] = {}
        self._running: dict[str, _Running] = {}
        self._expanded: dict[str, list[Expansion]] = {}
        #: In order; ComfyUI's `executed`.
        self._executed: dict[str, None] = {}
        #: Nodes that were looked at, whose ui belongs to this prompt.
        self._seen: dict[str, None] = {}
        self._messages: list[tuple[str, dict[str, Any]]] = []
        self._timings: dict[str, float] = {}
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look at the interrupt flag now, if async nodes are being waited for. Call on the loop."""
        self._wake.set()

    async def run(self) -> dict[str, Any]:
        """Execute. The result has the fields of an Outcome, and its kind as "outcome"."""
        running.set_running(
            running.RunningPrompt(self._prompt_id, self._prompt, self._extra_data, self._report, self._send_now)
        )
        try:
            self._message("execution_start", {"prompt_id": self._prompt_id})
            self._sender.flush()
            return await self._run()
        finally:
            running.set_running(None)
            await self._abandon()

    async def _run(self) -> dict[str, Any]:
        node_id: str | None = None
        try:
            await self._look_up()
            for output in self._outputs:
                self._order.add(output)
            while self._order:
                node_id = self._order.take()
                if node_id is not None:
                    await self._step(node_id)
                elif self._running:
                    await self._wait()
                else:
                    self._blame_cycle()
        except NodeFailed as failed:
            node_id = self._prompt.get_real_node_id(failed.node_id)
            where = self._where(node_id)
            if isinstance(failed.cause, InterruptProcessingException):
                self._message("execution_interrupted", where)
                return self._outcome("interrupted")
            error = where | describe_failure(failed.cause, failed.values, self._tips(failed.cause))
            error["current_outputs"] = list(self._prompt.original_prompt)
            return self._outcome("errored", error=self._message("execution_error", error))
        self._message("execution_success", {"prompt_id": self._prompt_id})
        return self._outcome("executed")

    async def _look_up(self) -> None:
        """Find what the cache has of this prompt."""
        nodes = self._prompt.original_prompt
        self._fingerprints = await fingerprints(nodes, nodes, self._definitions)
        self.add_keys(nodes)
        self._cache.begin(self._keys.values(), {node_id: node["class_type"] for node_id, node in nodes.items()})
        cached = [node_id for node_id in nodes if self._is_cached(node_id)]
        self._message("execution_cached", {"nodes": cached, "prompt_id": self._prompt_id})

    def add_keys(self, node_ids: Iterable[str]) -> None:
        """Work out the cache keys of nodes that are in the prompt now."""

        def get_node(node_id: str) -> dict[str, Any] | None:
            return self._prompt.get_node(node_id) if self._prompt.has_node(node_id) else None

        def key_of(node_id: str, node: Mapping[str, Any]) -> CacheKey:
            node_class = self._class_of(node_id)
            own_id = node_class.not_idempotent or (
                "UNIQUE_ID" in self._definitions.input_types(node_class).hidden.values()
            )
            return node_key(
                node_class.name,
                node.get("inputs") or {},
                self._keys.__getitem__,
                is_changed=self._fingerprints.get(node_id),
                node_id=node_id if own_id else None,
            )

        add_keys(self._keys, node_ids, get_node, key_of)

    async def _step(self, node_id: str) -> None:
        """Execute one node whose sources are done, or go on with one that was begun."""
        self._seen[node_id] = None
        cached = self._cache.get(self._keys[node_id])
        if cached is not None and node_id not in self._running and node_id not in self._expanded:
            self._show(node_id, cached.ui)
            self._progress.finish(node_id)
            self._order.done(node_id)
            return
        values: InputLists | None = None
        try:
            if node_id in self._expanded:
                expansions = self._expanded.pop(node_id)
                self._finish(node_id, [resolve(each, self._outputs_of) for each in expansions], {})
                return
            if node_id in self._running:
                begun = self._running.pop(node_id)
                values, started = begun.values, begun.started
                results = settled(begun.results)
            else:
                node_class = self._class_of(node_id)
                types = self._definitions.input_types(node_class)
                inputs = self._prompt.get_node(node_id).get("inputs") or {}
                values, missing = collect_inputs(inputs, types, self._outputs_of)
                values |= hidden_inputs(types, node_id, self._prompt, self._extra_data)
                self._progress.start(node_id)
                self._send_executing(node_id)
                interrupt.check()
                started = time.perf_counter()
                instance = self._cache.instance(node_id, node_class.name, node_class.cls)
                if node_class.has_lazy_status and await self._needs_more(
                    node_id, node_class, instance, values, missing
                ):
                    return
                results = await call_node(
                    node_id, node_class, instance, values, lambda blocker: self._blocked(node_id, blocker)
                )
                tasks = [each for each in results if isinstance(each, asyncio.Task)]
                if tasks and not all(task.done() for task in tasks):
                    self._running[node_id] = _Running(results, values, started, tasks)
                    self._order.hold(node_id)
                    return
                results = settled(results)
            self._timings[node_id] = round((time.perf_counter() - started) * 1000, 3)
            await self._take_results(node_id, results)
        except (Exception, SystemExit) as error:
            raise NodeFailed(node_id, error, values) from error

    async def _needs_more(
        self, node_id: str, node_class: NodeClass, instance: Any, values: InputLists, missing: set[str]
    ) -> bool:
        """Whether the node asks for lazy inputs that have yet to be computed; they are put before it."""
        inputs = self._prompt.get_node(node_id)["inputs"]
        running.enter_node(node_id)
        wanted = await lazy_inputs_wanted(node_class, instance, values)
        more = [name for name in wanted if name not in values or name in missing]
        for name in more:
            if not is_link(inputs.get(name)):
                raise ValueError(f"check_lazy_status asks for the input '{name}', which is not linked.")
            self._order.depend(node_id, inputs[name][0])
        if more:
            self._order.give_back(node_id)
        return bool(more)

    async def _take_results(self, node_id: str, results: list[Any]) -> None:
        node_class = self._class_of(node_id)
        returned = [read_return(each, len(node_class.return_types)) for each in results]
        ui = merge_ui([each.ui for each in returned])
        if any(each.expand is not None for each in returned):
            self._expanded[node_id] = [Expansion(each.expand, each.result or ()) for each in returned]
            if ui:
                self._show(node_id, ui)
            for each in self._expanded[node_id]:
                added = add_expansion(self._prompt, node_id, each, self._definitions)
                self._fingerprints |= await fingerprints(
                    self._prompt.ephemeral_prompt, added.nodes, self._definitions
                )
                self.add_keys(added.nodes)
                for output in added.outputs:
                    self._order.add(output)
                for source in added.sources:
                    self._order.depend(node_id, source)
            self._order.give_back(node_id)
            return
        self._finish(node_id, [each.result for each in returned if each.result is not None], ui)

    def _finish(self, node_id: str, results: list[tuple[Any, ...]], ui: dict[str, Any]) -> None:
        outputs = merge(results, self._class_of(node_id).output_is_list)
        owner = self._prompt.get_real_node_id(node_id)
        self._cache.set(
            self._keys[node_id],
            Cached(
                outputs,
                ui or None,
                owner=(owner, self._prompt.get_node(owner)["class_type"]),
                ephemeral=owner != node_id,
            ),
        )
        if ui:
            self._show(node_id, ui)
        self._progress.finish(node_id)
        self._executed[node_id] = None
        self._order.done(node_id)

    async def _wait(self) -> None:
        """Wait for an async node to end, or for an interrupt."""
        self._sender.flush()
        self._wake.clear()
        if not interrupt.requested:
            woken = asyncio.ensure_future(self._wake.wait())
            tasks = [task for each in self._running.values() for task in each.tasks if not task.done()]
            try:
                await asyncio.wait([woken, *tasks], return_when=asyncio.FIRST_COMPLETED)
            finally:
                woken.cancel()
        try:
            interrupt.check()
        except InterruptProcessingException as error:
            node_id, begun = next(iter(self._running.items()))
            raise NodeFailed(node_id, error, begun.values) from error
        for node_id, begun in self._running.items():
            failed = any(task.done() and task.exception() for task in begun.tasks if not task.cancelled())
            if failed or all(task.done() for task in begun.tasks):
                self._order.release(node_id)

    async def _abandon(self) -> None:
        """End what still runs after a failure; a node that ignores it is waited for no longer than this."""
        tasks = [task for each in self._running.values() for task in each.tasks if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_ABANDON_SECONDS)

    def _blocked(self, node_id: str, blocker: ExecutionBlocker) -> ExecutionBlocker:
        """Tell of a blocker with a message; what comes after is blocked silently."""
        if blocker.message is None:
            return blocker
        where = self._where(node_id)
        self._sender.event("execution_error", where | describe_block(blocker.message))
        return ExecutionBlocker(None)

    def _where(self, node_id: str) -> dict[str, Any]:
        """How an error begins."""
        return {
            "prompt_id": self._prompt_id,
            "node_id": node_id,
            "node_type": self._prompt.get_node(node_id)["class_type"],
            "executed": list(self._executed),
        }

    def _blame_cycle(self) -> None:
        nodes = self._order.cycle()
        shown = [self._prompt.get_display_node_id(node_id) for node_id in nodes]
        blamed = next((each for each, node_id in zip(shown, nodes, strict=True) if each != node_id), nodes[0])
        path = " → ".join(nodes[:20])
        raise NodeFailed(blamed, DependencyCycleError(f"Dependency cycle detected among {path}"), None)

    def _tips(self, cause: BaseException) -> str:
        if not is_out_of_memory(cause):
            return ""
        self._cache.clear()
        return OUT_OF_MEMORY_TIPS

    def _send_executing(self, node_id: str) -> None:
        display = self._prompt.get_display_node_id(node_id)
        data = {"node": node_id, "display_node": display, "prompt_id": self._prompt_id}
        self._sender.event("executing", data)
        self._sender.flush()

    def _show(self, node_id: str, ui: dict[str, Any] | None) -> None:
        display = self._prompt.get_display_node_id(node_id)
        data = {"node": node_id, "display_node": display, "output": ui, "prompt_id": self._prompt_id}
        self._sender.event("executed", data)

    def _report(self, node_id: str, value: float, maximum: float, preview: Any) -> None:
        self._progress.update(node_id, value, maximum, preview)
        self._sender.flush()

    def _send_now(self, event: str, data: dict[str, Any]) -> None:
        self._sender.event(event, data)
        self._sender.flush()

    def _message(self, event: str, data: dict[str, Any]) -> dict[str, Any]:
        """Send one of the status messages that history keeps."""
        data = data | {"timestamp": time.time_ns() // 1_000_000}
        self._messages.append((event, data))
        self._sender.event(event, data)
        return data

    def _outcome(self, kind: str, **more: Any) -> dict[str, Any]:
        outputs: dict[str, Any] = {}
        meta: dict[str, Any] = {}
        for node_id in self._seen:
            cached = self._cache.get(self._keys[node_id])
            if cached is not None and cached.ui is not None:
                outputs[node_id] = cached.ui
                meta[node_id] = {
                    "node_id": node_id,
                    "display_node": self._prompt.get_display_node_id(node_id),
                    "parent_node": self._prompt.get_parent_node_id(node_id),
                    "real_node_id": self._prompt.get_real_node_id(node_id),
                }
        return {
            "outcome": kind,
            "outputs": outputs,
            "meta": meta,
            "messages": self._messages,
            "timings": self._timings,
            **more,
        }

    def _class_of(self, node_id: str) -> NodeClass:
        name = self._prompt.get_node(node_id)["class_type"]
        node_class = self._definitions.node(name)
        if node_class is None:
            raise KeyError(f"There is no node class {name}.")
        return node_class

    def _outputs_of(self, node_id: str) -> list[list[Any]] | None:
        key = self._keys.get(node_id)
        cached = self._cache.get(key) if key is not None else None
        return cached.outputs if cached is not None else None

    def _sources(self, node_id: str) -> list[str]:
        """The nodes it links to, but for lazy inputs; raw links are dependencies too."""
        lazy = self._definitions.input_types(self._class_of(node_id)).lazy
        inputs = self._prompt.get_node(node_id).get("inputs") or {}
        return [value[0] for name, value in inputs.items() if is_link(value) and name not in lazy]

    def _is_cached(self, node_id: str) -> bool:
        return self._cache.get(self._keys[node_id]) is not None

    def _is_urgent(self, node_id: str) -> bool:
        node_class = self._class_of(node_id)
        return node_class.is_output or node_class.is_async

    def _is_output(self, node_id: str) -> bool:
        return self._class_of(node_id).is_output
