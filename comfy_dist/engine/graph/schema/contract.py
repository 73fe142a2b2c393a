"""Nodes of the newer schema as nodes of the older contract, which is all that the executor knows."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from comfy_dist.engine.graph import running
from comfy_dist.engine.graph.links import ExecutionBlocker
from comfy_dist.engine.graph.schema.hidden import Hidden, HiddenHolder
from comfy_dist.engine.graph.schema.node import ComfyNode, NodeOutput, UIOutput, normalized, overrides


def older_contract(node: type[ComfyNode]) -> type:
    """A class by the older contract whose instances do what `node` does. Raises what its schema raises."""
    schema = node.GET_SCHEMA()
    outputs = schema.outputs or []
    asked = tuple(schema.hidden)
    attributes: dict[str, Any] = {
        "schema_node": node,
        "INPUT_TYPES": staticmethod(node.INPUT_TYPES),
        "RETURN_TYPES": tuple(each.io_type for each in outputs),
        "OUTPUT_IS_LIST": tuple(each.is_output_list for each in outputs),
        "OUTPUT_NODE": schema.is_output_node,
        "INPUT_IS_LIST": schema.is_input_list,
        # Results that tell of the node's own id cannot be another's.
        "NOT_IDEMPOTENT": schema.not_idempotent or Hidden.unique_id in asked,
        "FUNCTION": "run",
        "run": staticmethod(_runner(node, asked, len(outputs))),
    }
    if node.RELATIVE_PYTHON_MODULE is not None:
        attributes["RELATIVE_PYTHON_MODULE"] = node.RELATIVE_PYTHON_MODULE
    if overrides(node, "validate_inputs"):
        attributes["VALIDATE_INPUTS"] = staticmethod(_on_clone(node, "validate_inputs", ()))
    if overrides(node, "fingerprint_inputs"):
        attributes["IS_CHANGED"] = staticmethod(_on_clone(node, "fingerprint_inputs", ()))
    if overrides(node, "check_lazy_status"):
        attributes["check_lazy_status"] = staticmethod(_on_clone(node, "check_lazy_status", asked))
    return type(node.__name__, (), attributes)


def _runner(node: type[ComfyNode], asked: tuple[Hidden, ...], outputs: int) -> Callable[..., Any]:
    execute = _on_clone(node, "execute", asked)
    if not inspect.iscoroutinefunction(node.execute):
        return lambda **inputs: _returned(normalized(node, execute(**inputs)), outputs)

    async def run(**inputs: Any) -> Any:
        return _returned(normalized(node, await execute(**inputs)), outputs)

    return run


def _returned(output: NodeOutput, outputs: int) -> dict[str, Any]:
    """It as the older contract's {"ui", "result", "expand"}."""
    returned: dict[str, Any] = {}
    if output.ui is not None:
        returned["ui"] = output.ui.as_dict() if isinstance(output.ui, UIOutput) else output.ui
    if output.expand is not None:
        returned["expand"] = output.expand
    if output.block_execution is not None:
        returned["result"] = (ExecutionBlocker(output.block_execution),) * outputs
    elif len(output.args) == 1 and isinstance(output.args[0], ExecutionBlocker):
        returned["result"] = output.args * outputs
    elif output.args or not outputs or output.expand is not None:
        returned["result"] = output.args
    return returned


def _on_clone(node: type[ComfyNode], name: str, asked: tuple[Hidden, ...]) -> Callable[..., Any]:
    """The class method `name`, called each time on a class of its own that knows what is hidden."""

    @functools.wraps(getattr(node, name))
    def call(**inputs: Any) -> Any:
        hidden = HiddenHolder.of(asked, running.running_prompt(), running.latest_node())
        return getattr(_clone(node, hidden), name)(**inputs)

    return call


def _clone(node: type[ComfyNode], hidden: HiddenHolder) -> type[ComfyNode]:
    """A class like `node` to which nothing can be assigned: calls must not see each other's state."""
    metaclass: Any = type(node)
    clone: type[ComfyNode] = _locked(metaclass)(node.__name__, (node,), {"hidden": hidden})
    return clone


@functools.cache
def _locked(metaclass: Any) -> type[type]:
    def refuse(cls: type, name: str, value: Any) -> None:
        # Python's own: abstract classes set these as they are made.
        if not name.startswith(("__", "_abc_")):
            raise AttributeError(
                f"{cls.__name__}.{name} cannot be assigned to while the node runs: its class is shared by all "
                "calls. Keep state in the inputs and outputs, or outside of the class.",
                name=name,
                obj=cls,
            )
        metaclass.__setattr__(cls, name, value)

    return type("Locked", (metaclass,), {"__setattr__": refuse})
