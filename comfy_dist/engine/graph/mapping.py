"""List mapping: one call per item of the longest input, and the results put together again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from comfy_dist.engine.graph.links import ExecutionBlocker

#: What an output or an input holds: one item per call, or a list output's items.
Values: TypeAlias = list[Any]


def calls(values: Mapping[str, Values], *, input_is_list: bool) -> Iterator[dict[str, Any]]:
    """The arguments of each call. Shorter lists repeat their last item; INPUT_IS_LIST is one call with all.

    Raises ValueError where an input is an empty list, as no call can be made of it.
    """
    if input_is_list:
        yield dict(values)
        return
    length = 1
    for name, items in values.items():
        if not items:
            raise ValueError(f"The input '{name}' received an empty list, so there is nothing to run on.")
        length = max(length, len(items))
    for index in range(length):
        yield {name: items[index if index < len(items) else -1] for name, items in values.items()}


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


def spread(result: Sequence[Any], output_is_list: Sequence[bool]) -> list[Values]:
    """The values of each output of one call: the items of those declared as lists (OUTPUT_IS_LIST)."""
    spread_out: list[Values] = []
    for index, value in enumerate(result):
        if index < len(output_is_list) and output_is_list[index] and not isinstance(value, ExecutionBlocker):
            if not isinstance(value, Iterable):
                raise TypeError(
                    f"Output {index} is declared as a list (OUTPUT_IS_LIST), but the node gave a value of type "
                    f"{type(value).__name__}."
                )
            spread_out.append(list(value))
        else:
            spread_out.append([value])
    return spread_out


def merge(results: Sequence[list[Values]]) -> list[Values]:
    """The values of each output, over all calls."""
    if len(results) <= 1:
        return results[0] if results else []
    counts = sorted({len(result) for result in results})
    if len(counts) > 1:
        raise ValueError(
            f"The node returned {counts[0]} outputs for one item of its inputs and {counts[-1]} for another."
        )
    return [[item for result in results for item in result[index]] for index in range(counts[0])]


def merge_ui(shown: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the calls showed, concatenated by key."""
    merged: dict[str, Any] = {}
    for each in shown:
        for key, value in each.items():
            merged.setdefault(key, []).extend(value if isinstance(value, (list, tuple)) else [value])
    return merged
