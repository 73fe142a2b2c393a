"""What the executor needs to know of a node class, read once from its attributes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class NodeClass:
    """A node class by ComfyUI's contract."""

    name: str
    cls: type
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
    not_idempotent: bool
    has_is_changed: bool
    has_lazy_status: bool

    @classmethod
    def of(cls, name: str, node: type, display_name: str, module: str) -> NodeClass:
        """Read `node`. Raises what a malformed class makes it raise."""
        function = node.FUNCTION  # type: ignore[attr-defined]
        return_types = tuple(plain_type(each) for each in getattr(node, "RETURN_TYPES", ()))
        declared = [bool(each) for each in getattr(node, "OUTPUT_IS_LIST", ())][: len(return_types)]
        return cls(
            name=name,
            cls=node,
            display_name=display_name,
            module=getattr(node, "RELATIVE_PYTHON_MODULE", module),
            function=function,
            is_async=inspect.iscoroutinefunction(getattr(node, function)),
            is_output=getattr(node, "OUTPUT_NODE", False) is True,
            input_is_list=bool(getattr(node, "INPUT_IS_LIST", False)),
            output_is_list=(*declared, *[False] * (len(return_types) - len(declared))),
            return_types=return_types,
            not_idempotent=bool(getattr(node, "NOT_IDEMPOTENT", False)),
            has_is_changed=hasattr(node, "IS_CHANGED"),
            has_lazy_status=hasattr(node, "check_lazy_status"),
        )

    def declared_inputs(self) -> dict[str, Any]:
        """Its INPUT_TYPES as they are now, with wildcard types as "*"."""
        declared: Mapping[str, Any] = self.cls.INPUT_TYPES()  # type: ignore[attr-defined]
        plain: dict[str, Any] = {}
        for category, inputs in declared.items():
            if category in ("required", "optional"):
                plain[category] = {name: (plain_type(info[0]), *info[1:]) for name, info in inputs.items()}
            else:
                plain[category] = inputs
        return plain


def plain_type(type_: Any) -> Any:
    """The type as data: packs write wildcards as strings that are unequal to nothing; they become "*"."""
    if isinstance(type_, str):
        if type(type_) is not str and not (type_ != "no type is called so"):  # noqa: SIM202 - asks __ne__
            return "*"
        return str(type_)
    return list(type_) if isinstance(type_, (list, tuple)) else type_


@dataclass(frozen=True, slots=True)
class InputTypes:
    """INPUT_TYPES, by input name."""

    #: Options of each declared input, required or optional.
    options: Mapping[str, Mapping[str, Any]]
    #: {input name: PROMPT, UNIQUE_ID, ...}
    hidden: Mapping[str, Any]
    raw_links: frozenset[str]
    lazy: frozenset[str]

    @classmethod
    def of(cls, declared: Mapping[str, Any]) -> InputTypes:
        options: dict[str, Mapping[str, Any]] = {}
        for category in ("optional", "required"):
            for name, info in (declared.get(category) or {}).items():
                given = info[1] if len(info) > 1 else {}
                options[name] = given if isinstance(given, Mapping) else {}
        return cls(
            options=options,
            hidden=declared.get("hidden") or {},
            raw_links=frozenset(name for name, given in options.items() if given.get("rawLink")),
            lazy=frozenset(name for name, given in options.items() if given.get("lazy")),
        )
