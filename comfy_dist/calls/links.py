"""Links and nodes of a prompt as the planning reads them, whatever a client sent. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from comfy_dist.calls.classes import PASSING

#: [node id, slot].
Link: TypeAlias = list[Any]
Node: TypeAlias = dict[str, Any]

#: What a node, and its inputs, may be. Nearly all are the first, which is looked at in a fraction of the time.
_NODES = (dict, Mapping)

#: The input that the planning adds to a node that is to hand on what was made in its place.
RESULTS = "results"


def is_link(value: Any) -> bool:
    """As the engines judge it: [node id, slot]."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], (int, float))
    )


def class_of(node: Any) -> str:
    """The class of a node, "" for what is none."""
    name = node.get("class_type") if isinstance(node, _NODES) else None
    return name if isinstance(name, str) else ""


def inputs_of(node: Any) -> Mapping[str, Any]:
    inputs = node.get("inputs") if isinstance(node, _NODES) else None
    return inputs if isinstance(inputs, _NODES) else {}


def links_of(node: Any) -> Iterator[tuple[str, Link]]:
    """The inputs of a node that are links."""
    for name, value in inputs_of(node).items():
        if is_link(value):
            yield name, value


def passed_on(node: Any) -> Link | None:
    """What a node hands on that the planning told to: a Listen its Broadcast, a UseSubgraph the piece's end.

    Such a node stands for that link in everything that is planned and cloned.
    """
    if class_of(node) not in PASSING:
        return None
    value = inputs_of(node).get(RESULTS)
    return value if is_link(value) else None


def key_of(link: Link) -> str:
    """A link as text: "source:slot"."""
    return f"{link[0]}:{link[1]}"


def link_of(key: str) -> Link:
    """The link of `key_of`."""
    source, _, slot = key.rpartition(":")
    return [source, int(slot) if slot.lstrip("-").isdigit() else float(slot)]


def natural(node_id: str) -> tuple[int, str]:
    """Sorts ids that are numbers as numbers."""
    return len(node_id), node_id


def shown_as(node_id: str, node: Any) -> str:
    """The id under which clients see a node: its own, but for what was added to their prompt."""
    display = node.get("override_display_id") if isinstance(node, Mapping) else None
    return display if isinstance(display, str) else node_id
