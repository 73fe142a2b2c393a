"""Cache keys: what a node's outputs depend on, as one short hash. Pure.

A key covers the class, the inputs, IS_CHANGED and the keys of the nodes linked to, hence the whole ancestry:
node ids do not matter, and the work is linear in the links.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from comfy_dist.engine.graph.links import is_link

CacheKey: TypeAlias = bytes

_unique = itertools.count()


def never() -> CacheKey:
    """A key equal to no other."""
    return b"never %d" % next(_unique)


def node_key(
    class_type: str,
    inputs: Mapping[str, Any],
    sources: Callable[[str], CacheKey],
    *,
    is_changed: Any = None,
    node_id: str | None = None,
    scope: str | None = None,
) -> CacheKey:
    """The key of one node; `sources` gives those of the nodes it links to, `node_id` joins where not None.

    So does `scope`, the node that expanded into it: as in ComfyUI, what is equal in two expansions, say two rounds
    of a loop, is executed in each.
    """
    parts: list[Any] = [class_type, node_id, scope]
    if is_changed is not None:
        if not _is_plain(is_changed):
            return never()
        parts.append(is_changed)
    for name in sorted(inputs):
        value = inputs[name]
        parts.append((name, sources(value[0]), value[1]) if is_link(value) else (name, value))
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def add_keys(
    keys: dict[str, CacheKey],
    node_ids: Iterable[str],
    get_node: Callable[[str], Mapping[str, Any] | None],
    key_of: Callable[[str, Mapping[str, Any]], CacheKey],
) -> None:
    """Add the keys of `node_ids` and all they depend on to `keys`, sources first.

    `key_of(node id, node)` is called when the keys of its sources are there. A node that is missing or depends
    on itself gets a key that is never found.
    """
    for wanted in node_ids:
        stack = [wanted]
        entered: set[str] = set()
        while stack:
            node_id = stack[-1]
            if node_id in keys:
                stack.pop()
                continue
            node = get_node(node_id)
            if node is None:
                keys[node_id] = never()
                continue
            inputs = node.get("inputs") or {}
            missing = [value[0] for value in inputs.values() if is_link(value) and value[0] not in keys]
            if not missing:
                keys[node_id] = key_of(node_id, node)
            elif node_id in entered:
                keys[node_id] = never()
            else:
                entered.add(node_id)
                stack += missing


def _is_plain(value: Any) -> bool:
    """Whether `value` is data whose text says all of it; NaN is not, as it equals nothing."""
    if isinstance(value, float):
        return value == value
    if value is None or isinstance(value, (str, int, bytes)):
        return True
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(item) for key, item in value.items())
    return False
