"""io.ComfyNode, from which nodes of the newer schema derive, and io.NodeOutput, which they return."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from comfy_dist.engine.graph.links import ExecutionBlocker
from comfy_dist.engine.graph.schema.definition import Schema, SchemaError
from comfy_dist.engine.graph.schema.hidden import HiddenHolder

_T = TypeVar("_T")


class UIOutput:
    """Something to show on the page: `as_dict` gives it as lists by kind."""

    def as_dict(self) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} has no as_dict.")


class NodeOutput:
    """What a node gives: its outputs in order, what to show, nodes to run in its place, or a reason to stop."""

    def __init__(
        self,
        *args: Any,
        ui: UIOutput | Mapping[str, Any] | None = None,
        expand: dict[str, Any] | None = None,
        block_execution: str | None = None,
    ) -> None:
        self.args = args
        self.ui = ui
        self.expand = expand
        self.block_execution = block_execution

    @property
    def result(self) -> tuple[Any, ...] | None:
        return self.args or None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NodeOutput:
        """Of the older contract's {"result", "ui", "expand"}."""
        result = data.get("result") or ()
        if isinstance(result, ExecutionBlocker):
            return cls(ui=data.get("ui"), block_execution=result.message)
        return cls(*result, ui=data.get("ui"), expand=data.get("expand"))

    def __getitem__(self, index: int) -> Any:
        return self.args[index]


class _FromSchema(Generic[_T]):
    """A class attribute of the older contract, read from the schema."""

    def __init__(self, read: Callable[[Schema], _T]) -> None:
        self._read = read

    def __get__(self, instance: object, owner: type[ComfyNode]) -> _T:
        return self._read(owner.GET_SCHEMA())


class ComfyNode:
    """A node that describes itself by `define_schema`. Its methods are class methods: there are no instances."""

    #: As /object_info's python_module, where it is not the pack.
    RELATIVE_PYTHON_MODULE: str | None = None
    #: While it runs: what its schema asks for under `hidden`.
    hidden: HiddenHolder | None = None

    @classmethod
    def define_schema(cls) -> Schema:
        """What the node is. Asked again whenever someone looks, so options may change."""
        raise SchemaError(f"{cls.__name__} has no define_schema.")

    @classmethod
    def execute(cls, **kwargs: Any) -> Any:
        """Do it; may be `async def`."""
        raise SchemaError(f"{cls.__name__} has no execute.")

    @classmethod
    def validate_inputs(cls, **kwargs: Any) -> bool | str:
        """True, or why the constants among the inputs will not do."""
        return True

    @classmethod
    def fingerprint_inputs(cls, **kwargs: Any) -> Any:
        """What the outputs depend on beside the inputs."""
        return None

    @classmethod
    def check_lazy_status(cls, **kwargs: Any) -> list[str]:
        """The lazy inputs that are needed, of those that are None so far."""
        return [name for name, value in kwargs.items() if value is None]

    # What follows is the older contract, for packs that look at each other's classes.

    DESCRIPTION = _FromSchema(lambda schema: schema.description)
    CATEGORY = _FromSchema(lambda schema: schema.category)
    EXPERIMENTAL = _FromSchema(lambda schema: schema.is_experimental)
    DEPRECATED = _FromSchema(lambda schema: schema.is_deprecated)
    API_NODE = _FromSchema(lambda schema: schema.is_api_node)
    OUTPUT_NODE = _FromSchema(lambda schema: schema.is_output_node)
    INPUT_IS_LIST = _FromSchema(lambda schema: schema.is_input_list)
    NOT_IDEMPOTENT = _FromSchema(lambda schema: schema.not_idempotent)
    RETURN_TYPES = _FromSchema(lambda schema: [each.io_type for each in schema.outputs or ()])
    RETURN_NAMES = _FromSchema(lambda schema: [each.display_name or each.io_type for each in schema.outputs or ()])
    OUTPUT_IS_LIST = _FromSchema(lambda schema: [each.is_output_list for each in schema.outputs or ()])
    OUTPUT_TOOLTIPS = _FromSchema(lambda schema: [each.tooltip or None for each in schema.outputs or ()])
    FUNCTION = "EXECUTE_NORMALIZED"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:  # noqa: N802 - ComfyUI's name
        return cls.GET_SCHEMA().input_types()

    @classmethod
    def EXECUTE_NORMALIZED(cls, **inputs: Any) -> Any:  # noqa: N802 - ComfyUI's name
        """`execute` with its result as a NodeOutput; of an async one, a coroutine of it."""
        result = cls.execute(**inputs)
        return _later(cls, result) if inspect.isawaitable(result) else normalized(cls, result)

    @classmethod
    def GET_SCHEMA(cls) -> Schema:  # noqa: N802 - ComfyUI's name
        """Its schema as it is now, complete and sound. Raises SchemaError where it is not."""
        schema = cls.define_schema()
        if not isinstance(schema, Schema):
            raise SchemaError(f"define_schema of {cls.__name__} returned {schema!r}; it must return an io.Schema.")
        schema.finalize()
        schema.validate()
        if not overrides(cls, "execute"):
            raise SchemaError(f"{cls.__name__} has no execute.")
        return schema


def overrides(node: type[ComfyNode], name: str) -> bool:
    """Whether the class has a method of its own in place of ComfyNode's."""
    return getattr(getattr(node, name), "__func__", None) is not vars(ComfyNode)[name].__func__


def normalized(node: type[ComfyNode], result: Any) -> NodeOutput:
    """What `execute` returned, as a NodeOutput. Raises TypeError or SchemaError with a sentence."""
    if result is None:
        result = NodeOutput()
    elif isinstance(result, tuple):
        result = NodeOutput(*result)
    elif isinstance(result, Mapping):
        result = NodeOutput.from_dict(result)
    elif isinstance(result, ExecutionBlocker):
        result = NodeOutput(result)
    if not isinstance(result, NodeOutput):
        raise TypeError(
            f"{node.__name__}.execute returned a value of type {type(result).__name__}; "
            "it must return an io.NodeOutput, a tuple or None."
        )
    if result.expand is not None and not node.GET_SCHEMA().enable_expand:
        raise SchemaError(f"{node.__name__} returned nodes to expand into; its schema lacks enable_expand=True.")
    return result


async def _later(node: type[ComfyNode], result: Any) -> NodeOutput:
    return normalized(node, await result)
