"""One execution of one prompt, in ComfyUI's order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from comfy_dist.engine.graph import running
from comfy_dist.engine.graph.begun_nodes import Begun, BegunNodes
from comfy_dist.engine.graph.caches import Cache, Cached
from comfy_dist.engine.graph.dynamic_prompt import DynamicPrompt
from comfy_dist.engine.graph.execution_record import ExecutionRecord, Sender
from comfy_dist.engine.graph.expansion import Expansion, add_expansion, resolve
from comfy_dist.engine.graph.failures import (
    OUT_OF_MEMORY_TIPS,
    DependencyCycleError,
    NodeFailed,
    NodeInputError,
    is_out_of_memory,
)
from comfy_dist.engine.graph.held import HeldOutputs
from comfy_dist.engine.graph.inputs import InputLists, collect_inputs, hidden_inputs, not_given
from comfy_dist.engine.graph.instances import Instances
from comfy_dist.engine.graph.interrupt import InterruptProcessingException, interrupt
from comfy_dist.engine.graph.invoke import call_node, lazy_inputs_wanted, settled
from comfy_dist.engine.graph.links import ExecutionBlocker, is_link
from comfy_dist.engine.graph.mapping import Values, merge, merge_ui, spread
from comfy_dist.engine.graph.node_class import NodeClass
from comfy_dist.engine.graph.order import ExecutionOrder
from comfy_dist.engine.graph.prompt_graph import PromptGraph
from comfy_dist.engine.graph.registry import Definitions
from comfy_dist.engine.graph.returns import read_return

_log = logging.getLogger(__name__)

#: Seconds after which it is told that hidden nodes are waited for.
TELL_SECONDS = 0.05
#: Nodes that an error about a cycle names.
_CYCLE_NODES_NAMED = 20


class Execution:
    """Made for one prompt; `run` it once."""

    def __init__(
        self,
        definitions: Definitions,
        cache: Cache,
        instances: Instances,
        sender: Sender,
        *,
        prompt: dict[str, Any],
        prompt_id: str,
        extra_data: Mapping[str, Any],
        outputs: Iterable[str],
    ) -> None:
        self._cache = cache
        self._instances = instances
        self._prompt_id = prompt_id
        self._extra_data = extra_data
        self._outputs = tuple(outputs)
        self._prompt = DynamicPrompt(prompt)
        self._graph = PromptGraph(self._prompt, definitions)
        self._record = ExecutionRecord(prompt_id, self._prompt, sender)
        self._order = ExecutionOrder(self._enter, self._is_there, self._graph.is_urgent, self._graph.is_output)
        self._held = HeldOutputs()
        #: The nodes whose outputs each node that is not done uses.
        self._uses: dict[str, list[str]] = {}
        self._begun = BegunNodes()
        self._expanded: dict[str, list[Expansion]] = {}

    def wake(self) -> None:
        """Look at the interrupt flag now, if async nodes are being waited for. Call on the loop."""
        self._begun.wake()

    async def run(self) -> dict[str, Any]:
        """Execute. The result has the fields of an Outcome, and its kind as "outcome"."""
        record = self._record
        running.set_running(
            running.RunningPrompt(
                self._prompt_id,
                self._prompt,
                self._extra_data,
                record.node_reported,
                record.send,
                record.show_text,
            )
        )
        try:
            record.start()
            await self._run()
        except NodeFailed as failed:
            if isinstance(failed.cause, InterruptProcessingException):
                return record.interrupted(failed.node_id)
            return record.failed(failed, self._tips(failed))
        else:
            return record.succeeded()
        finally:
            running.set_running(None)
            await self._begun.abandon()

    async def _run(self) -> None:
        await self._look_up()
        self._order.add(*self._outputs)
        while self._order:
            node_id = self._order.take()
            if node_id is not None:
                await self._step(node_id)
            elif self._begun:
                for ended in await self._wait():
                    self._order.release(ended)
            else:
                self._blame_cycle()

    async def _wait(self) -> list[str]:
        """The nodes whose calls have ended, one at least."""
        if not all(self._graph.class_of(node_id).is_hidden for node_id in self._begun):
            self._record.flush()
            return await self._begun.wait()
        # They rarely wait long, and what is told then can be told with what follows.
        telling = asyncio.get_running_loop().call_later(TELL_SECONDS, self._record.flush)
        try:
            return await self._begun.wait()
        finally:
            telling.cancel()

    async def _look_up(self) -> None:
        """Find what the cache has of this prompt."""
        nodes = self._prompt.original_prompt
        classes = (self._graph.definitions.node(node["class_type"]) for node in nodes.values())
        if any(each is not None and each.has_is_changed for each in classes):
            # That code may take long; else the first node's start is told at once, and this with it.
            self._record.flush()
        await self._graph.learn(nodes)
        keys = self._graph.keys
        owners = {node_id: node["class_type"] for node_id, node in nodes.items()}
        self._cache.begin(keys.values(), owners)
        self._instances.begin(owners)
        self._record.cached([node_id for node_id in nodes if self._cache.get(keys[node_id]) is not None])

    async def _step(self, node_id: str) -> None:
        """Execute one node whose sources are done, or go on with one that was begun."""
        values: InputLists | None = None
        try:
            if node_id in self._expanded:
                self._finish_expansion(node_id)
            elif node_id in self._begun:
                begun = self._begun[node_id]
                values = begun.values
                await self._end(node_id, begun)
            elif (cached := self._find(node_id)) is not None:
                self._record.node_shown(node_id, cached.ui)
                self._done(node_id, cached, executed=False)
            else:
                types = self._graph.types_of(node_id)
                self._record.node_started(node_id, hidden=self._graph.class_of(node_id).is_hidden)
                values, missing = collect_inputs(self._graph.inputs_of(node_id), types, self._outputs_of)
                values |= hidden_inputs(types, node_id, self._prompt, self._extra_data)
                await self._begin(node_id, values, missing)
        except BaseException as error:
            # Also what ends programs: to sys.exit() is not a node's to decide.
            raise NodeFailed(node_id, error, values) from error

    async def _begin(self, node_id: str, values: InputLists, missing: set[str]) -> None:
        """Call the node, unless it asks for more inputs, and end it if none of its calls goes on."""
        node_class = self._graph.class_of(node_id)
        interrupt.check()
        started = time.perf_counter()
        instance = self._instances.get(node_id, node_class.name, node_class.cls, self._graph.owner(node_id))
        if node_class.has_lazy_status and await self._needs_more(node_id, node_class, instance, values, missing):
            return

        def on_blocked(blocker: ExecutionBlocker) -> ExecutionBlocker:
            return self._record.node_blocked(node_id, blocker)

        begun = Begun(values, started)
        self._begun.add(node_id, begun)
        await call_node(node_id, node_class, instance, values, on_blocked, begun.results)
        if begun.pending:
            self._order.hold(node_id)
        else:
            await self._end(node_id, begun)

    async def _end(self, node_id: str, begun: Begun) -> None:
        """All calls of the node are done, or one has failed."""
        results = settled(begun.results)
        self._begun.remove(node_id)
        self._record.node_timed(node_id, time.perf_counter() - begun.started)
        await self._take_results(node_id, results)

    async def _needs_more(
        self, node_id: str, node_class: NodeClass, instance: Any, values: InputLists, missing: set[str]
    ) -> bool:
        """Whether the node asks for lazy inputs that have yet to be computed; they are put before it."""
        inputs = self._graph.inputs_of(node_id)
        running.enter_node(node_id)
        wanted = await lazy_inputs_wanted(node_class, instance, values)
        more = [name for name in wanted if name not in values or name in missing]
        for name in more:
            if not is_link(inputs.get(name)):
                what = "that value is a constant" if name in inputs else "there is no input to that node at all"
                raise NodeInputError(f"Node {node_id} says it needs input {name}, but {what}")
            self._order.depend(node_id, inputs[name][0])
        if more:
            self._order.give_back(node_id)
        return bool(more)

    async def _take_results(self, node_id: str, results: list[Any]) -> None:
        node_class = self._graph.class_of(node_id)
        returned = [read_return(each, len(node_class.return_types)) for each in results]
        ui = merge_ui([each.ui for each in returned]) or None
        if ui is not None:
            self._record.node_shown(node_id, ui)
        if any(each.expand is not None for each in returned):
            await self._expand(node_id, [Expansion(each.expand, each.result or ()) for each in returned])
            return
        outputs = merge(
            [spread(each.result, node_class.output_is_list) for each in returned if each.result is not None]
        )
        if 0 < len(outputs) < len(node_class.return_types):
            _log.warning(
                "Node %s (%s) returned %d of its %d outputs; the others are None.",
                node_id,
                node_class.name,
                len(outputs),
                len(node_class.return_types),
            )
        self._finish(node_id, outputs, ui)

    async def _expand(self, node_id: str, expansions: list[Expansion]) -> None:
        """Put the nodes that the calls returned before this one."""
        self._expanded[node_id] = expansions
        added: dict[str, None] = {}
        outputs: list[str] = []
        for each in expansions:
            outputs += add_expansion(self._prompt, node_id, each, self._graph.definitions, added)
        await self._graph.learn(added)
        self._cache.expand(self._graph.owner(node_id), [self._graph.keys[each] for each in added])
        sources = [source for each in expansions for source in each.sources]
        self._held.use(sources)
        self._uses[node_id] += sources
        self._order.add(*outputs)
        for source in sources:
            self._order.depend(node_id, source)
        self._order.give_back(node_id)

    def _finish_expansion(self, node_id: str) -> None:
        is_list = self._graph.class_of(node_id).output_is_list
        expansions = self._expanded.pop(node_id)
        self._finish(node_id, merge([resolve(each, is_list, self._outputs_of) for each in expansions]), None)

    def _finish(self, node_id: str, outputs: list[Values], ui: dict[str, Any] | None) -> None:
        owner = self._graph.owner(node_id)
        entry = Cached(outputs, ui, owner=owner, ephemeral=owner[0] != node_id)
        self._cache.set(self._graph.keys[node_id], entry)
        self._done(node_id, entry, executed=True)

    def _done(self, node_id: str, entry: Cached, *, executed: bool) -> None:
        self._held.hold(node_id, entry)
        self._held.release(self._uses.pop(node_id))
        self._record.node_finished(node_id, executed=executed)
        self._order.done(node_id)

    def _enter(self, node_id: str) -> list[str]:
        """A node is going to be executed: the nodes it needs before it."""
        self._uses[node_id] = self._graph.used(node_id)
        self._held.use(self._uses[node_id])
        return self._graph.needed(node_id)

    def _find(self, node_id: str) -> Cached | None:
        """What it gave, now or for an earlier prompt; found, it stays as long as a node uses it."""
        entry = self._held.get(node_id)
        if entry is None and (key := self._graph.keys.get(node_id)) is not None:
            entry = self._cache.get(key)
            if entry is not None:
                self._held.hold(node_id, entry)
        return entry

    def _is_there(self, node_id: str) -> bool:
        return self._find(node_id) is not None

    def _outputs_of(self, node_id: str) -> list[Values] | None:
        entry = self._find(node_id)
        return entry.outputs if entry is not None else None

    def _blame_cycle(self) -> None:
        nodes = self._order.cycle()
        # Given nodes were checked before; the expansion that closes the circle is to blame.
        shown = [self._prompt.get_display_node_id(node_id) for node_id in nodes]
        blamed = next((each for each, node_id in zip(shown, nodes, strict=True) if each != node_id), nodes[0])
        path = " → ".join(nodes[:_CYCLE_NODES_NAMED])
        raise NodeFailed(blamed, DependencyCycleError(f"Dependency cycle detected among {path}"), None)

    def _tips(self, failed: NodeFailed) -> str:
        """What helps to understand a failure."""
        if is_out_of_memory(failed.cause):
            self._cache.clear()
            return OUT_OF_MEMORY_TIPS
        if failed.values is None:
            return ""
        node_id = failed.node_id
        return "\n".join(
            not_given(self._graph.inputs_of(node_id), self._graph.types_of(node_id), self._outputs_of)
        )
