"""Calling a node's methods: once per item of its inputs, sync or async."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from comfy_dist.engine.graph import running
from comfy_dist.engine.graph.inputs import InputLists
from comfy_dist.engine.graph.interrupt import interrupt
from comfy_dist.engine.graph.links import ExecutionBlocker
from comfy_dist.engine.graph.mapping import blocker_in, calls
from comfy_dist.engine.graph.node_class import NodeClass


async def call_node(
    node_id: str,
    node_class: NodeClass,
    instance: Any,
    values: InputLists,
    on_blocked: Callable[[ExecutionBlocker], ExecutionBlocker],
    results: list[Any],
) -> None:
    """Add its return value for each item to `results`, a task where it is async. Blocked items give what
    `on_blocked` does."""
    function = getattr(instance, node_class.function)
    running.enter_node(node_id)
    for index, arguments in enumerate(calls(values, input_is_list=node_class.input_is_list)):
        if index:
            interrupt.check()
        blocker = blocker_in(arguments, input_is_list=node_class.input_is_list)
        if blocker is not None:
            results.append(on_blocked(blocker))
            continue
        running.enter_call(node_id, index)
        if node_class.is_async:
            results.append(asyncio.create_task(_contained(function(**arguments))))
            # Many end without ever waiting; then nothing needs to be held back.
            await asyncio.sleep(0)
        else:
            results.append(function(**arguments))


async def _contained(call: Coroutine[Any, Any, Any]) -> Any:
    """What it gives. These two exceptions would end the loop, and with it the process, not only the task."""
    try:
        return await call
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"The node raised {type(error).__name__}: {error}") from error


def settled(results: Iterable[Any]) -> list[Any]:
    """The results with tasks replaced by what they gave. Raises the exception of one that failed."""
    results = list(results)
    for each in results:
        if isinstance(each, asyncio.Task) and each.done():
            if each.cancelled():
                raise RuntimeError("The node's coroutine was cancelled from within.")
            error = each.exception()
            if error is not None:
                raise error
    return [each.result() if isinstance(each, asyncio.Task) else each for each in results]


async def lazy_inputs_wanted(node_class: NodeClass, instance: Any, values: InputLists) -> list[str]:
    """The names that check_lazy_status asks for, in order. Blocked items ask for nothing."""
    wanted: dict[str, None] = {}
    for arguments in calls(values, input_is_list=node_class.input_is_list):
        if blocker_in(arguments, input_is_list=node_class.input_is_list) is not None:
            continue
        answer = instance.check_lazy_status(**arguments)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, list):
            wanted |= dict.fromkeys(name for name in answer if isinstance(name, str))
    return list(wanted)
