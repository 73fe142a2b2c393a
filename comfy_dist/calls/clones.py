"""A region's nodes once more, for one chunk; and the prompt with which another worker helps. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from comfy_dist.calls.classes import COLLECTED, COLLECTOR, HELD, HELD_CLASS, RANK, RUNS, closed_inputs
from comfy_dist.calls.layout import Layout
from comfy_dist.calls.links import Link, Node, class_of, inputs_of, is_link, key_of, link_of, links_of, shown_as

#: The node of an id: DYNPROMPT's get_node, so that constants are those that validation has cast.
NodeOf: TypeAlias = Callable[[str], Mapping[str, Any]]


class Part(Protocol):
    """What the clones of one chunk are linked to in place of what lies outside of them."""

    def opener(self, node_id: str) -> Link:
        """The chunk's part of what an opening node shares out."""
        ...

    def info(self, node_id: str, slot: int) -> Link:
        """Output `slot` of a ClusterInfo: the rank, the world, or the list."""
        ...

    def differing(self, node_id: str) -> Mapping[str, Any]:
        """The inputs that tell a seed or a value whose share it is in."""
        ...

    def value(self, name: str, link: Link) -> Link:
        """The Run node's input `name`, whose source is `link` in the parent's prompt.

        Of a value that cannot travel, after all, another process takes the carried source: `carry(…).link(link)`.
        """
        ...

    def carried(self, link: Link) -> Link:
        """A carried node's output: `link` itself in the parent's prompt, elsewhere `carry(…).link(link)`."""
        ...


@dataclass(frozen=True, slots=True)
class Clones:
    """The nodes of an expansion, and where it ends."""

    graph: dict[str, Node]
    #: What each closing node is to get of this chunk.
    results: dict[str, Link]
    #: The output nodes inside: whoever links to these runs after them. The value is None where a node gives none.
    after: list[Link]


@dataclass(frozen=True, slots=True)
class Carried:
    """Carried nodes of a rank's prompt that depend on values: clones, the same for every chunk."""

    graph: dict[str, Node]
    #: Original id -> clone.
    clones: Mapping[str, str]

    def link(self, link: Link) -> Link:
        """Where a carried node's output is found in the rank's prompt."""
        clone = self.clones.get(link[0])
        return link if clone is None else [clone, link[1]]


def chunk_prefix(run: str, chunk: int) -> str:
    """What the ids of the clones of a region's chunk begin with."""
    return f"{run}.{chunk}."


def clone(layout: Layout, node_of: NodeOf, prefix: str, part: Part) -> Clones:
    """The region's nodes under ids of their own, `prefix` before the originals', shown under the originals'.

    Equal for equal `part`s, so that a cache knows what did not change. Regions inside come with their Run nodes,
    whose layouts name the clones.
    """
    members = frozenset(layout.members)
    held = frozenset(layout.held)
    infos = frozenset(layout.infos)
    differing = frozenset(layout.differing)

    def relink(link: Link, recarry: bool = False) -> Link:
        link = _passed(layout, link)
        source, slot = link
        if source in members:
            return [prefix + source, slot]
        if source in layout.openers:
            return part.opener(source)
        if source in infos:
            return part.info(source, slot)
        name = layout.links.get(key_of(link))
        if name is not None and not recarry:
            return part.value(name, link)
        return part.carried(link)

    def cloned(node_id: str) -> Node:
        node = unheld(node_of(node_id))
        class_type, inputs = node["class_type"], node["inputs"]
        if class_type in RUNS:
            inside = Layout.from_json(inputs["layout"])
            inputs["layout"] = inside.renamed(relink, lambda link: relink(link, recarry=True)).to_json()
        if node_id in held:
            class_type, inputs[HELD_CLASS] = HELD, class_type
        if node_id in differing:
            inputs |= part.differing(node_id)
        return {
            "class_type": class_type,
            "inputs": {name: relink(value) if is_link(value) else value for name, value in inputs.items()},
            "override_display_id": shown_as(node_id, node),
        }

    graph = {prefix + node_id: cloned(node_id) for node_id in layout.members}
    results: dict[str, Link] = {}
    for closer in layout.closers:
        node = node_of(closer)
        ends = {name: relink(link) for name, link in _closed(node).items()}
        if class_of(node) == COLLECTOR:
            graph[prefix + closer] = {
                "class_type": COLLECTED,
                "inputs": ends,
                "override_display_id": shown_as(closer, node),
            }
            results[closer] = [prefix + closer, 0]
        else:
            (results[closer],) = ends.values()
    return Clones(
        graph=graph,
        results=results,
        after=[[prefix + node_id, 0] for node_id in layout.outputs],
    )


def rank_prompt(layout: Layout, node_of: NodeOf, rank_id: str, staying: Collection[str] = ()) -> dict[str, Node]:
    """The prompt of a call that helps with the region; its only output is the node `rank_id`.

    The region's nodes lie in it under their own ids and are linked to by nobody: they say what a worker must have,
    and are there to be cloned. Beside them lie the nodes that come with the region, to be executed where they are.
    `staying` are the Run node's inputs whose values turned out not to travel.
    """
    prompt: dict[str, Node] = {}
    for node_id in (*layout.members, *_carried(layout, node_of, staying)):
        node = unheld(node_of(node_id))
        for name, link in links_of(node):
            node["inputs"][name] = _passed(layout, link)
        prompt[node_id] = node
    for closer in layout.closers:
        node = unheld(node_of(closer))
        prompt[closer] = {**node, "inputs": {name: _passed(layout, link) for name, link in _closed(node).items()}}
    prompt[rank_id] = {
        "class_type": RANK,
        "inputs": {"layout": layout.to_json()},
        "override_display_id": layout.shown,
    }
    return prompt


def carry(
    layout: Layout, node_of: NodeOf, value: Callable[[str, Link], Link], staying: Collection[str] = ()
) -> Carried:
    """In a rank's prompt: clones of the carried nodes that depend on values of the parent.

    They are the same for every chunk: one expansion adds them, and those of later chunks link to them. `value` is
    what `Part.value` is; `staying` as in `rank_prompt`.
    """
    needed = _carried(layout, node_of, staying)
    among = frozenset(needed)
    consumers: dict[str, list[str]] = {}
    bound: dict[str, None] = {}
    for node_id in needed:
        for _, link in links_of(node_of(node_id)):
            name, (source, _) = _travels(layout, link, staying), link
            if name is not None:
                bound[node_id] = None
            elif source in among:
                consumers.setdefault(source, []).append(node_id)
    reached = list(bound)
    for node_id in reached:
        for consumer in consumers.get(node_id, ()):
            if consumer not in bound:
                bound[consumer] = None
                reached.append(consumer)
    carried = Carried({}, {node_id: f"{layout.run}.carried.{node_id}" for node_id in bound})

    def relink(link: Link) -> Link:
        name = _travels(layout, link, staying)
        return carried.link(link) if name is None else value(name, link)

    for node_id, clone_id in carried.clones.items():
        node = unheld(node_of(node_id))
        node["inputs"] = {name: relink(each) if is_link(each) else each for name, each in node["inputs"].items()}
        carried.graph[clone_id] = {**node, "override_display_id": shown_as(node_id, node)}
    return carried


def unheld(node: Mapping[str, Any]) -> Node:
    """A copy of the node, as what it is where a clone of it is held."""
    inputs = dict(inputs_of(node))
    held = inputs.pop(HELD_CLASS) if class_of(node) == HELD else class_of(node)
    copy: Node = {"class_type": held, "inputs": inputs}
    if "override_display_id" in node:
        copy["override_display_id"] = node["override_display_id"]
    return copy


def _closed(closer: Mapping[str, Any]) -> dict[str, Link]:
    """What a closing node closes with, by input."""
    inputs = inputs_of(closer)
    return {name: inputs[name] for name in closed_inputs(class_of(closer)) if is_link(inputs.get(name))}


def _passed(layout: Layout, link: Link) -> Link:
    """What a link leads to behind nodes that only hand something on."""
    passed = layout.aliases.get(link[0])
    return link if passed is None else link_of(passed)


def _travels(layout: Layout, link: Link, staying: Collection[str]) -> str | None:
    """The Run node's input with the value of a link from outside, None where its source comes instead."""
    name = layout.links.get(key_of(_passed(layout, link)))
    return None if name in staying else name


def _carried(layout: Layout, node_of: NodeOf, staying: Collection[str]) -> list[str]:
    """The carried nodes that a rank needs."""
    candidates = frozenset(layout.carried)

    def sources(node_id: str) -> Iterator[str]:
        for _, link in links_of(node_of(node_id)):
            source = _passed(layout, link)[0]
            if source in candidates and _travels(layout, link, staying) is None:
                yield source

    needed: dict[str, None] = {}
    reached = [*layout.members, *layout.closers]
    for node_id in reached:
        for source in sources(node_id):
            if source not in needed:
                needed[source] = None
                reached.append(source)
    return list(needed)
