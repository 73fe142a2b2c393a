"""The values a node is called with: constants, what links bring, and hidden inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from comfy_dist.engine.graph.dynamic_prompt import DynamicPrompt
from comfy_dist.engine.graph.links import is_link
from comfy_dist.engine.graph.mapping import Values
from comfy_dist.engine.graph.node_class import InputTypes
from comfy_dist.input_judging import unwrapped

#: The values of each output of a node, or None while it has none.
OutputsOf: TypeAlias = Callable[[str], list[Values] | None]
#: Every input as a list: list mapping calls the node once per item.
InputLists: TypeAlias = dict[str, Values]


def collect_inputs(
    inputs: Mapping[str, Any], types: InputTypes, outputs_of: OutputsOf | None
) -> tuple[InputLists, set[str]]:
    """The declared inputs' values, and the names of those whose source has not run (their value is None).

    Without `outputs_of` every linked input is such: IS_CHANGED and VALIDATE_INPUTS see only constants.
    An output that its node did not give is None too, as in ComfyUI: many nodes do without (see `not_given`).
    """
    values: InputLists = {}
    missing: set[str] = set()
    for name, value in inputs.items():
        if is_link(value) and name not in types.raw_links:
            outputs = outputs_of(value[0]) if outputs_of is not None else None
            if outputs is None:
                missing.add(name)
                values[name] = [None]
            else:
                values[name] = outputs[value[1]] if value[1] < len(outputs) else [None]
        elif name in types.options:
            values[name] = [unwrapped(value)]
    return values, missing


def not_given(inputs: Mapping[str, Any], types: InputTypes, outputs_of: OutputsOf) -> list[str]:
    """A sentence for each input that is None as the node it is linked to gave no such output."""
    sentences = []
    for name, value in inputs.items():
        if is_link(value) and name not in types.raw_links:
            outputs = outputs_of(value[0])
            if outputs is not None and value[1] >= len(outputs):
                sentences.append(
                    f"The input '{name}' is None: it is linked to output {value[1]} of node {value[0]}, which "
                    f"returned {len(outputs)} output{'' if len(outputs) == 1 else 's'}."
                )
    return sentences


def hidden_inputs(
    types: InputTypes, node_id: str, prompt: DynamicPrompt | None, extra_data: Mapping[str, Any]
) -> InputLists:
    """What the node declares as hidden: PROMPT, DYNPROMPT, EXTRA_PNGINFO, UNIQUE_ID, credentials."""
    values: InputLists = {}
    for name, kind in types.hidden.items():
        if kind == "PROMPT":
            values[name] = [prompt.get_original_prompt() if prompt is not None else {}]
        elif kind == "DYNPROMPT":
            values[name] = [prompt]
        elif kind == "EXTRA_PNGINFO":
            values[name] = [extra_data.get("extra_pnginfo")]
        elif kind == "UNIQUE_ID":
            values[name] = [node_id]
        elif kind in ("AUTH_TOKEN_COMFY_ORG", "API_KEY_COMFY_ORG"):
            values[name] = [extra_data.get(kind.lower())]
    return values
