"""What a chunk's clones are linked to: what lies in the parent's prompt, or what a rank was sent. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from comfy_dist.calls.classes import RANK_INFO, RECEIVED, SLICE, STEP
from comfy_dist.calls.clones import Carried, NodeOf, carry, chunk_prefix, clone
from comfy_dist.calls.differing import told_of
from comfy_dist.calls.layout import Layout
from comfy_dist.calls.links import Link, Node, inputs_of
from comfy_dist.calls.shares import Chunk

#: Start and stop of an opening node's part.
Bounds = Callable[[str], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Local:
    """In the parent's prompt: slices of what the opening nodes were given, everything else where it is."""

    layout: Layout
    node_of: NodeOf
    chunk: Chunk
    bounds: Bounds
    workers: str
    #: The nodes that were made for it.
    graph: dict[str, Node] = field(default_factory=dict)

    def opener(self, node_id: str) -> Link:
        start, stop = self.bounds(node_id)
        source = inputs_of(self.node_of(self.layout.run))[self.layout.openers[node_id].input]
        name = f"{self.layout.run}.slice.{self.chunk.index}.{node_id}"
        return _add(self.graph, self.layout, name, SLICE, values=source, start=start, stop=stop)

    def info(self, node_id: str, slot: int) -> Link:
        return _info(self.graph, self.layout, self.chunk, self.workers, slot)

    def differing(self, node_id: str) -> dict[str, Any]:
        return told_of(self.node_of(node_id), self.chunk)

    def value(self, name: str, link: Link) -> Link:
        return link

    def carried(self, link: Link) -> Link:
        return link


@dataclass(frozen=True, slots=True)
class Remote:
    """In a rank's prompt: what its parent sent, by content, and the carried nodes."""

    layout: Layout
    node_of: NodeOf
    chunk: Chunk
    slices: Mapping[str, str]
    #: The Run node's inputs; those that are missing stay where they are.
    values: Mapping[str, str]
    carriage: Carried
    workers: str
    graph: dict[str, Node] = field(default_factory=dict)

    def opener(self, node_id: str) -> Link:
        name = f"{self.layout.run}.slice.{self.chunk.index}.{node_id}"
        return _add(self.graph, self.layout, name, RECEIVED, content=self.slices[node_id])

    def info(self, node_id: str, slot: int) -> Link:
        return _info(self.graph, self.layout, self.chunk, self.workers, slot)

    def differing(self, node_id: str) -> dict[str, Any]:
        return told_of(self.node_of(node_id), self.chunk)

    def value(self, name: str, link: Link) -> Link:
        return [value_id(self.layout, name), 0] if name in self.values else self.carriage.link(link)

    def carried(self, link: Link) -> Link:
        return self.carriage.link(link)


class _Noting:
    """Takes down which values the clones are linked to."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}

    def opener(self, node_id: str) -> Link:
        return [node_id, 0]

    def info(self, node_id: str, slot: int) -> Link:
        return [node_id, slot]

    def differing(self, node_id: str) -> dict[str, Any]:
        return {}

    def value(self, name: str, link: Link) -> Link:
        self.names[name] = None
        return link

    def carried(self, link: Link) -> Link:
        return link


def values_needed(layout: Layout, node_of: NodeOf, staying: Collection[str] = ()) -> tuple[str, ...]:
    """The Run node's inputs whose values a rank needs, beside what is divided."""
    noting = _Noting()
    clone(layout, node_of, chunk_prefix(layout.run, 0), noting)
    carry(layout, node_of, noting.value, staying)
    return tuple(name for name in noting.names if name not in staying)


def value_id(layout: Layout, name: str) -> str:
    """The node of a rank's prompt that receives a value."""
    return f"{layout.run}.value.{name}"


def received_values(layout: Layout, values: Mapping[str, str]) -> dict[str, Node]:
    """The nodes that receive the values, the same for every chunk."""
    graph: dict[str, Node] = {}
    for name, content in values.items():
        _add(graph, layout, value_id(layout, name), RECEIVED, content=content)
    return graph


def expansion(
    layout: Layout, node_of: NodeOf, chunk: Chunk, part: Local | Remote, turn: str
) -> tuple[dict[str, Node], Link]:
    """The nodes that execute a chunk: clones, what `part` links them to, and a step after them that hands in what
    they gave; and the step's output with the first closing node's results, which the others' follow."""
    clones = clone(layout, node_of, chunk_prefix(layout.run, chunk.index), part)
    handed_in: dict[str, Any] = {f"result_{n}": link for n, link in enumerate(clones.results.values())}
    handed_in |= {f"after_{n}": link for n, link in enumerate(clones.after)}
    graph = part.graph | clones.graph
    name = f"{layout.run}.step.{chunk.index}"
    return graph, _add(graph, layout, name, STEP, turn=turn, chunk=chunk.index, **handed_in)


def _info(graph: dict[str, Node], layout: Layout, chunk: Chunk, workers: str, slot: int) -> Link:
    name = f"{layout.run}.info.{chunk.index}"
    source, _ = _add(graph, layout, name, RANK_INFO, rank=chunk.rank, world=chunk.world, workers=workers)
    return [source, slot]


def _add(graph: dict[str, Node], layout: Layout, name: str, class_type: str, **inputs: Any) -> Link:
    graph[name] = {"class_type": class_type, "inputs": inputs, "override_display_id": layout.shown}
    return [name, 0]
