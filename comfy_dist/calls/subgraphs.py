"""Named pieces of a prompt: what lies between a StartSubgraph and its EndSubgraph, used again elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from comfy_dist.calls.classes import END, START
from comfy_dist.calls.errors import RegionError
from comfy_dist.calls.links import Link, Node, class_of, inputs_of, is_link, links_of, natural, shown_as

#: The input of Start, End and Use that the image comes through, and the one that names the piece.
IMAGE, NAME = "image", "subgraph_id"
#: Pieces inside each other.
DEEPEST = 64


@dataclass(frozen=True, slots=True)
class Piece:
    """What is between a Start and its End, and depends on the Start."""

    name: str
    start: str
    members: tuple[str, ...]
    #: What the End takes: an output of a member, or of the Start itself.
    end: Link


@dataclass(eq=False, slots=True)
class _Open:
    """The Start that a node lies behind, and those that this one lies behind."""

    start: str
    around: _Open | None
    depth: int
    begun: int
    ends: list[str]


class Subgraphs:
    """The named pieces of a prompt. Only those that are asked for are looked at closely."""

    def __init__(self, nodes: Mapping[str, Any]) -> None:
        self._nodes = nodes
        self._starts: dict[str, list[str]] = {}
        for node_id, node in nodes.items():
            name = inputs_of(node).get(NAME)
            if class_of(node) == START and isinstance(name, str):
                self._starts.setdefault(name, []).append(node_id)
        self._pieces: dict[str, Piece] = {}
        self._behind: dict[str, _Open | None] | None = None
        self._opened: dict[str, _Open] = {}

    def piece(self, name: str, use: str) -> Piece:
        """The piece of that name, for the node `use`. Raises RegionError."""
        if name not in self._pieces:
            self._pieces[name] = self._find(name, use)
        return self._pieces[name]

    def _find(self, name: str, use: str) -> Piece:
        starts = sorted(self._starts.get(name, ()), key=natural)
        if not starts:
            known = ", ".join(f"'{each}'" for each in sorted(self._starts))
            instead = f", or use one that is there: {known:.300}" if known else ""
            raise RegionError(
                f"Node {use} uses the subgraph '{name:.100}', which nothing in this workflow starts. Give a "
                f"{START} that subgraph_id{instead}.",
                use,
            )
        if len(starts) > 1:
            raise RegionError(
                f"Node {use} uses the subgraph '{name:.100}', and nodes {', '.join(starts)} all start one of that "
                "subgraph_id. Give each its own.",
                use,
            )
        if self._behind is None:
            self._behind = self._walk()
        start = starts[0]
        opened = self._opened.get(start)
        if opened is None or not opened.ends:
            raise RegionError(
                f"The subgraph '{name:.100}' that node {start} ({START}) starts has no {END} behind it. Add one.",
                start,
            )
        if len(opened.ends) > 1:
            raise RegionError(
                f"The subgraph '{name:.100}' that node {start} ({START}) starts has several ends: nodes "
                f"{', '.join(sorted(opened.ends, key=natural))}. Keep one {END}.",
                start,
            )
        end = inputs_of(self._nodes[opened.ends[0]])[IMAGE]
        members: dict[str, None] = {}
        reached = [end[0]]
        for node_id in reached:
            if node_id == start or node_id in members or not self._is_behind(node_id, opened):
                continue
            members[node_id] = None
            reached += [link[0] for _, link in links_of(self._nodes[node_id])]
        return Piece(name, start, tuple(sorted(members, key=natural)), end)

    def _is_behind(self, node_id: str, opened: _Open) -> bool:
        assert self._behind is not None
        here = self._behind.get(node_id)
        if here is not None and here.depth > opened.depth + DEEPEST:
            raise too_deep(opened.start)
        while here is not None and here.depth > opened.depth:
            here = here.around
        return here is opened

    def _walk(self) -> dict[str, _Open | None]:
        """The innermost Start that each node lies behind. Nodes of a cycle are left out."""
        waiting: dict[str, int] = {}
        consumers: dict[str, list[str]] = {}
        for node_id, node in self._nodes.items():
            waiting[node_id] = 0
            for _, (source, _) in links_of(node):
                if source in self._nodes:
                    waiting[node_id] += 1
                    consumers.setdefault(source, []).append(node_id)
        behind: dict[str, _Open | None] = {}
        ready = [node_id for node_id, count in waiting.items() if not count]
        for node_id in ready:
            node = self._nodes[node_id]
            opens = [here for _, link in links_of(node) if (here := behind.get(link[0])) is not None]
            # Of several the innermost; of two beside each other the later, as the other one has ended by then.
            here = max(opens, key=lambda each: (each.depth, each.begun), default=None)
            if class_of(node) == START:
                here = _Open(node_id, here, here.depth + 1 if here else 1, len(behind), [])
                self._opened[node_id] = here
            elif class_of(node) == END and here is not None and is_link(inputs_of(node).get(IMAGE)):
                here.ends.append(node_id)
                here = here.around
            behind[node_id] = here
            for consumer in consumers.get(node_id, ()):
                waiting[consumer] -= 1
                if not waiting[consumer]:
                    ready.append(consumer)
        return behind


def too_deep(node_id: str) -> RegionError:
    return RegionError(f"At node {node_id} subgraphs lie more than {DEEPEST} deep inside each other.", node_id)


def inline(
    piece: Piece, nodes: Mapping[str, Any], use: str, node: Any, fresh: Callable[[str], str]
) -> tuple[dict[str, Node], Link | None]:
    """The piece once more, on the image of `node`, whose id is `use`, and the output that this one is to hand on.

    The clones' ids are `{use}.{original id}`, made free by `fresh`, and they are shown under `use`'s.
    """
    image = inputs_of(node).get(IMAGE)
    clones = {member: fresh(f"{use}.{member}") for member in piece.members}

    def moved(value: Any) -> Any:
        if not is_link(value):
            return value
        if value[0] == piece.start:
            return image
        return [clones.get(value[0], value[0]), value[1]]

    graph: dict[str, Node] = {}
    for member, clone_id in clones.items():
        inputs = {
            name: new for name, value in inputs_of(nodes[member]).items() if (new := moved(value)) is not None
        }
        graph[clone_id] = {**nodes[member], "inputs": inputs, "override_display_id": shown_as(use, node)}
    end = moved(piece.end)
    return graph, end if is_link(end) else None
