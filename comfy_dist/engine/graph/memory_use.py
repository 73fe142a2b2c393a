"""How much main memory a value takes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

#: Values looked at; a structure of more is taken for what has been seen of it.
_LOOKED_AT = 100_000


def main_memory_of(value: Any) -> int:
    """Bytes: tensors on the CPU and arrays by their data, containers by what they hold, the rest by its own size.

    What several places hold is counted once. Objects of other kinds do not tell what they hold.
    """
    total = 0
    seen: set[int] = set()
    stack = [value]
    while stack and len(seen) < _LOOKED_AT:
        here = stack.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        if isinstance(here, Mapping):
            stack += here.keys()
            stack += here.values()
        elif isinstance(here, (list, tuple, set, frozenset)):
            stack += here
        elif hasattr(here, "untyped_storage"):
            if here.device.type == "cpu":
                storage = here.untyped_storage()
                if storage.data_ptr() not in seen:
                    seen.add(storage.data_ptr())
                    total += storage.nbytes()
            continue
        elif isinstance(getattr(here, "nbytes", None), int):
            total += here.nbytes
            continue
        total += sys.getsizeof(here, 0)
    return total
