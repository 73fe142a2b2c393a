"""What the executor needs to know of a node class, read once from its attributes."""

from __future__ import annotations

import inspect
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from comfy_dist.engine.graph.schema.contract import older_contract
from comfy_dist.engine.graph.schema.node import ComfyNode


@dataclass(frozen=True, slots=True)
class NodeClass:
    """A node class by ComfyUI's contract."""

    name: str
    #: By the older contract; made for it where the pack wrote a `schema_node`.
    cls: type
    schema_node: type[ComfyNode] | None
    display_name: str
    #: As /object_info's python_module.
    module: str
    function: str
    #: FUNCTION is `async def`.
    is_async: bool
    is_output: bool
    input_is_list: bool
    output_is_list: tuple[bool, ...]
    return_types: tuple[Any, ...]
    #: It may give more outputs than it declares: those that its user adds on the page.
    open_outputs: bool
    not_idempotent: bool
    has_is_changed: bool
    has_lazy_status: bool
    #: Plans and expansions put it in, no person does: it ends at once or waits for others, and its inputs are
    #: always the same.
    is_hidden: bool
    #: The names that its VALIDATE_INPUTS takes, ("*",) for **kwargs; None where it has none.
    validates: tuple[str, ...] | None

    @classmethod
    def of(cls, name: str, node: type, display_name: str, module: str) -> NodeClass:
        """Read `node`. Raises what a malformed class makes it raise."""
        if not isinstance(node, type):
            raise TypeError(f"it is {node!r}, not a class")
        schema_node = node if issubclass(node, ComfyNode) else None
        if schema_node is not None:
            node = older_contract(schema_node)
        function = node.FUNCTION  # type: ignore[attr-defined]
        returned = getattr(node, "RETURN_TYPES", None) or ()
        # ("IMAGE") is a text, not a tuple: a slip that many packs make.
        return_types = tuple(plain_type(each) for each in ([returned] if isinstance(returned, str) else returned))
        declared = [bool(each) for each in getattr(node, "OUTPUT_IS_LIST", None) or ()][: len(return_types)]
        return cls(
            name=name,
            cls=node,
            schema_node=schema_node,
            display_name=display_name,
            module=getattr(node, "RELATIVE_PYTHON_MODULE", module),
            function=function,
            is_async=inspect.iscoroutinefunction(getattr(node, function)),
            is_output=getattr(node, "OUTPUT_NODE", False) is True,
            input_is_list=bool(getattr(node, "INPUT_IS_LIST", False)),
            output_is_list=(*declared, *[False] * (len(return_types) - len(declared))),
            return_types=return_types,
            open_outputs=_has_every_index(returned),
            not_idempotent=bool(getattr(node, "NOT_IDEMPOTENT", False)),
            has_is_changed=hasattr(node, "IS_CHANGED"),
            has_lazy_status=hasattr(node, "check_lazy_status"),
            is_hidden=getattr(node, "COMFY_DIST_HIDDEN", False) is True,
            validates=_arguments(getattr(node, "VALIDATE_INPUTS", None)),
        )

    def declared_inputs(self) -> dict[str, Any]:
        """Its INPUT_TYPES as they are now, with wildcard types as "*"."""
        declared: Mapping[str, Any] = self.cls.INPUT_TYPES()  # type: ignore[attr-defined]
        plain: dict[str, Any] = {}
        for category, inputs in declared.items():
            if category in ("required", "optional"):
                # Not `inputs or {}`: a dict that has every name may be empty.
                inputs = {} if inputs is None else inputs
                listed = {name: _plain_input(info) for name, info in inputs.items()}
                plain[category] = listed if type(inputs) is dict else OpenInputs(listed, inputs)
            else:
                plain[category] = inputs
        return plain


class OpenInputs(dict[str, Any]):
    """Inputs a pack declared by a dict of its own, which may hold names that it does not list.

    Nodes with any number of inputs do so: `name in inputs` is true for names that the page makes up.
    """

    def __init__(self, listed: Mapping[str, Any], declared: Container[str]) -> None:
        super().__init__(listed)
        self._declared = declared

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self._declared


def plain_type(type_: Any) -> Any:
    """The type as data: packs write wildcards as strings that are unequal to nothing; they become "*"."""
    if isinstance(type_, str):
        if type(type_) is not str and not (type_ != "no type is called so"):  # noqa: SIM202 - asks __ne__
            return "*"
        return str(type_)
    return list(type_) if isinstance(type_, (list, tuple)) else type_


def _has_every_index(returned: Any) -> bool:
    """Whether RETURN_TYPES is a tuple of the pack's own, with a type for any output."""
    if type(returned) in (tuple, list, str):
        return False
    try:
        returned[len(returned)]
    except (LookupError, TypeError):
        return False
    return True


def _plain_input(info: Any) -> tuple[Any, ...]:
    return (plain_type(info),) if isinstance(info, str) else (plain_type(info[0]), *info[1:])


def _arguments(function: Any) -> tuple[str, ...] | None:
    if function is None:
        return None
    names: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            names.append("*")
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            names.append(parameter.name)
    return tuple(names)


#: What hidden inputs are filled with.
HIDDEN_KINDS = frozenset(
    {"PROMPT", "DYNPROMPT", "EXTRA_PNGINFO", "UNIQUE_ID", "AUTH_TOKEN_COMFY_ORG", "API_KEY_COMFY_ORG"}
)


@dataclass(frozen=True, slots=True)
class InputTypes:
    """INPUT_TYPES, by input name."""

    #: Options of each declared input, required or optional.
    options: Mapping[str, Mapping[str, Any]]
    #: {input name: PROMPT, UNIQUE_ID, ...}, handed over as arguments.
    hidden: Mapping[str, Any]
    raw_links: frozenset[str]
    lazy: frozenset[str]

    @classmethod
    def of(cls, declared: Mapping[str, Any]) -> InputTypes:
        options: dict[str, Mapping[str, Any]] = {}
        for category in ("optional", "required"):
            for name, info in declared.get(category, {}).items():
                given = info[1] if len(info) > 1 else {}
                options[name] = given if isinstance(given, Mapping) else {}
        for name, info in (declared.get("hidden") or {}).items():
            # A hidden input of a type of its own, ("INT",), is one that expansions give.
            # (Not `in`: types may be lists, and texts that cannot be hashed.)
            if isinstance(info, (list, tuple)) and info and str(info[0]) not in HIDDEN_KINDS:
                options.setdefault(name, {})
        opened = next((each for each in declared.values() if isinstance(each, OpenInputs)), None)
        return cls(
            options=options if opened is None else OpenInputs(options, opened),
            # The newer schema's hidden inputs are no arguments; it writes them as ("PROMPT",).
            hidden={name: kind for name, kind in (declared.get("hidden") or {}).items() if isinstance(kind, str)},
            raw_links=frozenset(name for name, given in options.items() if given.get("rawLink")),
            lazy=frozenset(name for name, given in options.items() if given.get("lazy")),
        )
