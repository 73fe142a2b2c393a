"""/object_info of the node classes here, and which inputs they validate by code."""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Mapping
from typing import Any

from comfy_dist.engine.frames import encode_json
from comfy_dist.engine.graph.node_class import NodeClass
from comfy_dist.engine.graph.registry import Registry

_log = logging.getLogger(__name__)


def object_info(registry: Registry) -> dict[str, dict[str, Any]]:
    """ComfyUI's /object_info, folders behind combos read now. A class whose INPUT_TYPES raises is left out."""
    found: dict[str, dict[str, Any]] = {}
    for node_class in registry:
        try:
            found[node_class.name] = describe(node_class)
        except Exception as error:  # noqa: BLE001 - a custom node's code may raise anything
            _log.warning("INPUT_TYPES of %s raised %s: %s", node_class.name, type(error).__name__, error)
    return found


def describe(node_class: NodeClass) -> dict[str, Any]:
    """One entry of /object_info."""
    cls = node_class.cls
    inputs = node_class.declared_inputs()
    outputs = list(node_class.return_types)
    entry = {
        "input": inputs,
        "input_order": {category: list(names) for category, names in inputs.items()},
        "output": outputs,
        "output_is_list": list(node_class.output_is_list),
        "output_name": list(getattr(cls, "RETURN_NAMES", None) or outputs),
        "name": node_class.name,
        "display_name": node_class.display_name,
        "description": getattr(cls, "DESCRIPTION", ""),
        "python_module": node_class.module,
        "category": getattr(cls, "CATEGORY", "sd"),
        "output_node": node_class.is_output,
    }
    if hasattr(cls, "OUTPUT_TOOLTIPS"):
        entry["output_tooltips"] = list(cls.OUTPUT_TOOLTIPS)
    for key, attribute in (("deprecated", "DEPRECATED"), ("experimental", "EXPERIMENTAL")):
        if getattr(cls, attribute, False):
            entry[key] = True
    if hasattr(cls, "API_NODE"):
        entry["api_node"] = cls.API_NODE
    return entry


def validated_by_code(node_class: NodeClass) -> tuple[str, ...]:
    """The names that its VALIDATE_INPUTS takes; ("*",) for **kwargs, nothing without one."""
    function = getattr(node_class.cls, "VALIDATE_INPUTS", None)
    if function is None:
        return ()
    names: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            names.append("*")
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            names.append(parameter.name)
    return tuple(names)


def short_hash(value: Any) -> str:
    """The same for equal data, in any process."""
    return hashlib.sha256(encode_json(_sorted(value))).hexdigest()[:16]


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [_sorted(item) for item in value]
    return value
