"""Validation with the nodes at hand: limits and combos as they are now, and VALIDATE_INPUTS."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from comfy_dist.engine.graph.inputs import collect_inputs, hidden_inputs
from comfy_dist.engine.graph.mapping import calls
from comfy_dist.engine.graph.registry import Definitions
from comfy_dist.validation import Validation, validate_prompt


def check_prompt(prompt: Any, targets: Sequence[str] | None, definitions: Definitions) -> Validation:
    """Judge the prompt, code included; its constants are cast in place."""

    def check_by_code(node_id: str, received_types: Mapping[str, Any]) -> list[tuple[str, Any]]:
        return _run_validate_inputs(prompt[node_id], node_id, received_types, definitions)

    by_code: dict[str, tuple[str, ...]] = {}
    if isinstance(prompt, dict):
        for node in prompt.values():
            node_class = definitions.node(node.get("class_type")) if isinstance(node, dict) else None
            if node_class is not None and node_class.validates is not None:
                by_code[node_class.name] = node_class.validates
    return validate_prompt(
        prompt, definitions, targets=targets, validated_by_code=by_code, check_by_code=check_by_code
    )


def _run_validate_inputs(
    node: Mapping[str, Any], node_id: str, received_types: Mapping[str, Any], definitions: Definitions
) -> list[tuple[str, Any]]:
    """Call VALIDATE_INPUTS with the constants it names; one refusal per argument, as ComfyUI reports it.

    So one without arguments can only refuse by raising.
    """
    node_class = definitions.node(node["class_type"])
    assert node_class is not None
    names = node_class.validates or ()
    types = definitions.input_types(node_class)
    values, _ = collect_inputs(node["inputs"], types, None)
    values |= hidden_inputs(types, node_id, None, {})
    taken = {name: items for name, items in values.items() if "*" in names or name in names}
    if "input_types" in names:
        taken["input_types"] = [dict(received_types)]
    refused: list[tuple[str, Any]] = []
    for arguments in calls(taken, input_is_list=node_class.input_is_list):
        verdict = node_class.cls.VALIDATE_INPUTS(**arguments)  # type: ignore[attr-defined]
        if inspect.iscoroutine(verdict):
            verdict = _await(verdict)
        if verdict is not True:
            refused += [(name, verdict) for name in taken]
    return refused


def _await(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Its result, whether or not this thread has a loop running."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()
