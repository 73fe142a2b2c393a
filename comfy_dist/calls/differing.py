"""What differs between the shares of a workflow: seeds and values. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from comfy_dist.calls.classes import VALUE
from comfy_dist.calls.links import class_of, inputs_of
from comfy_dist.calls.shares import Chunk
from comfy_dist.errors import ComfyDistError

#: Seeds are whole numbers below it.
SEEDS = 2**64
#: In `worker_values`, of which type all values are.
TYPE = "_type"


class UnusableValues(ComfyDistError):
    """What a DistributedValue is given for the workers is not understood."""


def seed_of(seed: int, share: int) -> int:
    """A share's seed: no two have the same, and after the last comes 0."""
    return (seed + share) % SEEDS


def told_of(node: Mapping[str, Any], share: Chunk) -> dict[str, Any]:
    """What tells a seed or a value in which share it is, as inputs.

    Those of a value are the same for as long as the value is, so that what was made with it stays cached.
    """
    if class_of(node) != VALUE:
        return {"share": share.index}
    names: list[str] = list(share.names)
    values = inputs_of(node).get("worker_values")
    if isinstance(values, str):
        try:
            names = [name for name in names if name in values_of(values)][:1]
        except UnusableValues:
            # The node says so.
            names = []
    return {"names": json.dumps(names)}


def value_of(default: Any, worker_values: str, names: str) -> Any:
    """The first of the `names` (a JSON list) that the values have one for, the default where they have none.

    Raises UnusableValues.
    """
    values = values_of(worker_values)
    kind = values.get(TYPE)
    found = next((values[name] for name in json.loads(names) if values.get(name) not in (None, "")), default)
    if kind is None and isinstance(default, (int, float)) and not isinstance(default, bool):
        kind = "INT" if isinstance(default, int) else "FLOAT"
    return _typed(found, str(kind)) if found != "" else found


def values_of(text: str) -> dict[str, Any]:
    """By worker's name or id, or by the number of a share, counted from 1. Raises UnusableValues."""
    try:
        values = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise UnusableValues(f"worker_values is no JSON: {error}.") from None
    if not isinstance(values, dict):
        raise UnusableValues(
            'worker_values is a JSON object with a value for each worker: {"1": "one", "its name": "two"}.'
        )
    return values


def _typed(value: Any, kind: str) -> Any:
    """Numbers where the type says so; what is of another type is left as it is, as for a list of choices."""
    if kind not in ("INT", "FLOAT"):
        return value
    try:
        return _whole(value) if kind == "INT" else float(value)
    except (TypeError, ValueError, OverflowError):
        raise UnusableValues(f"{value!r:.100} is no {kind}, which {TYPE} says the values are.") from None


def _whole(value: Any) -> int:
    """Seeds are larger than a float has exact, so only a fraction goes through one."""
    try:
        return int(value)
    except ValueError:
        return int(float(value))
