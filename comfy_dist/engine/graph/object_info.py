"""/object_info of the node classes here."""

from __future__ import annotations

import logging
from typing import Any

from pydantic_core import from_json

from comfy_dist.engine.frames import encode_json
from comfy_dist.engine.graph.node_class import NodeClass
from comfy_dist.engine.graph.registry import Registry, sentence

_log = logging.getLogger(__name__)


def object_info(registry: Registry) -> dict[str, dict[str, Any]]:
    """ComfyUI's /object_info, folders behind combos read now. A class whose INPUT_TYPES raises is left out."""
    found: dict[str, dict[str, Any]] = {}
    for node_class in registry:
        name = node_class.name
        try:
            found[name] = describe(node_class)
        except BaseException as error:  # noqa: BLE001 - a custom node's code may raise anything
            fault = sentence(error)
            if registry.faults.get(name) != fault:
                _log.warning("The node %s is left out for now, as INPUT_TYPES raised %s", name, fault)
            registry.faults[name] = fault
        else:
            registry.faults.pop(name, None)
    return found


def describe(node_class: NodeClass) -> dict[str, Any]:
    """One entry of /object_info, as plain JSON data. Raises what the class makes it raise."""
    if node_class.schema_node is not None:
        entry = node_class.schema_node.GET_SCHEMA().object_info(node_class.module)
        entry["name"] = node_class.name
    else:
        entry = _describe_attributes(node_class)
    plain: dict[str, Any] = from_json(encode_json(entry))
    return plain


def _describe_attributes(node_class: NodeClass) -> dict[str, Any]:
    cls = node_class.cls
    inputs = node_class.declared_inputs()
    outputs = list(node_class.return_types)
    entry = {
        "input": inputs,
        "input_order": {category: list(names) for category, names in inputs.items()},
        "output": outputs,
        "output_is_list": list(node_class.output_is_list),
        "output_name": _names(getattr(cls, "RETURN_NAMES", None)) or outputs,
        "name": node_class.name,
        "display_name": node_class.display_name,
        "description": getattr(cls, "DESCRIPTION", ""),
        "python_module": node_class.module,
        "category": getattr(cls, "CATEGORY", "sd"),
        "output_node": node_class.is_output,
    }
    if node_class.open_outputs:
        entry["open_outputs"] = True
    if hasattr(cls, "OUTPUT_TOOLTIPS"):
        entry["output_tooltips"] = list(cls.OUTPUT_TOOLTIPS)
    for key, attribute in (("deprecated", "DEPRECATED"), ("experimental", "EXPERIMENTAL")):
        if getattr(cls, attribute, False):
            entry[key] = True
    if hasattr(cls, "API_NODE"):
        entry["api_node"] = cls.API_NODE
    return entry


def _names(given: Any) -> list[Any]:
    return [given] if isinstance(given, str) else list(given or ())
