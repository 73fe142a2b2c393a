"""IS_CHANGED: what a node says its outputs depend on beside its inputs."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import Any

from comfy_dist.engine.graph.inputs import collect_inputs, hidden_inputs
from comfy_dist.engine.graph.mapping import calls
from comfy_dist.engine.graph.registry import Definitions, sentence

_log = logging.getLogger(__name__)

#: The node says that it changes always, or could not say.
ALWAYS = float("nan")


async def fingerprints(nodes: Mapping[str, Mapping[str, Any]], definitions: Definitions) -> dict[str, Any]:
    """The result of IS_CHANGED of each node that has one: a list with one item per call.

    It sees constants only, None for each link. A hook that raises counts as always changed.
    """
    found: dict[str, Any] = {}
    for node_id, node in nodes.items():
        node_class = definitions.node(node["class_type"])
        if node_class is None or not node_class.has_is_changed:
            continue
        try:
            found[node_id] = await _ask(node_id, node, definitions)
        except BaseException as error:  # noqa: BLE001 - a custom node's code may raise anything
            _log.warning(
                "IS_CHANGED of node %s (%s) raised %s: the node counts as changed.",
                node_id,
                node_class.name,
                sentence(error),
            )
            found[node_id] = ALWAYS
    return found


async def _ask(node_id: str, node: Mapping[str, Any], definitions: Definitions) -> list[Any]:
    node_class = definitions.node(node["class_type"])
    assert node_class is not None
    types = definitions.input_types(node_class)
    values, _ = collect_inputs(node.get("inputs") or {}, types, None)
    values |= hidden_inputs(types, node_id, None, {})
    results = []
    for arguments in calls(values, input_is_list=node_class.input_is_list):
        result = node_class.cls.IS_CHANGED(**arguments)  # type: ignore[attr-defined]
        results.append(await result if inspect.isawaitable(result) else result)
    return results
