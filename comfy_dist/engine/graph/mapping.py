"""List mapping: one call per item of the longest input, and the results put together again. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from comfy_dist.engine.graph.links import ExecutionBlocker


def calls(values: Mapping[str, list[Any]], *, input_is_list: bool) -> list[dict[str, Any]]:
    """The arguments of each call. Shorter lists repeat their last item; INPUT_IS_LIST is one call with all.

    Raises ValueError where an input is an empty list, as no call can be made of it.
    """
    if input_is_list:
        return [dict(values)]
    length = 1
    for name, items in values.items():
        if not items:
            raise ValueError(f"The input '{name}' received an empty list, so there is nothing to run on.")
        length = max(length, len(items))
    if length == 1:
        return [{name: items[0] for name, items in values.items()}]
    return [
        {name: items[index if index < len(items) else -1] for name, items in values.items()}
        for index in range(length)
    ]


def blocker_in(arguments: Mapping[str, Any], *, input_is_list: bool) -> ExecutionBlocker | None:
    """The ExecutionBlocker among the arguments, if any."""
    for value in arguments.values():
        if isinstance(value, ExecutionBlocker):
            return value
        if input_is_list and isinstance(value, list):
            for item in value:
                if isinstance(item, ExecutionBlocker):
                    return item
    return None


def merge(results: Sequence[Sequence[Any]], output_is_list: Sequence[bool]) -> list[list[Any]]:
    """One list of values per output, from the results of each call.

    An output declared as a list (OUTPUT_IS_LIST) adds its items, others themselves.
    """
    if not results:
        return []
    merged: list[list[Any]] = []
    for index in range(len(results[0])):
        is_list = index < len(output_is_list) and output_is_list[index]
        values: list[Any] = []
        for result in results:
            value = result[index]
            if is_list and not isinstance(value, ExecutionBlocker):
                values.extend(value)
            else:
                values.append(value)
        merged.append(values)
    return merged


def merge_ui(shown: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the calls showed, concatenated by key."""
    merged: dict[str, Any] = {}
    for each in shown:
        for key, value in each.items():
            merged.setdefault(key, []).extend(value if isinstance(value, (list, tuple)) else [value])
    return merged
