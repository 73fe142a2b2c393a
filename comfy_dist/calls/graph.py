"""A prompt as the planning sees it: its nodes, what each is linked to, and in what order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from comfy_dist.calls.classes import (
    ANY_TYPE,
    BALANCED,
    CLOSERS,
    COLLECTOR,
    INFO,
    OPENERS,
    TRAVELLING,
    closed_inputs,
)
from comfy_dist.calls.errors import RegionError
from comfy_dist.calls.links import Link, class_of, inputs_of, is_link, links_of, passed_on, shown_as

#: Nodes of a cycle that an error names.
_CYCLE_SHOWN = 10


class Graph:
    """Nodes by id. What is no node is not there, and links to what is not there are none."""

    def __init__(self, nodes: Mapping[str, Any], nodes_info: Mapping[str, Mapping[str, Any]]) -> None:
        self.nodes = nodes
        self._info = nodes_info
        self._links: dict[str, list[Link]] = {}
        #: Nodes that only hand something on -> what they stand for.
        self.aliases: dict[str, Link] = {}

    def has(self, node_id: str) -> bool:
        return class_of(self.nodes.get(node_id)) != ""

    def class_of(self, node_id: str) -> str:
        return class_of(self.nodes.get(node_id))

    def links(self, node_id: str) -> list[Link]:
        """What the node is linked to, behind nodes that only hand something on."""
        found = self._links.get(node_id)
        if found is None:
            resolved = (self.resolve(link) for _, link in links_of(self.nodes[node_id]))
            found = self._links[node_id] = [link for link in resolved if self.has(link[0])]
        return found

    def closed_links(self, closer: str) -> list[Link]:
        """What a closing node closes with, behind nodes that only hand something on."""
        inputs = self.inputs(closer)
        names = closed_inputs(self.class_of(closer))
        found = [self.resolve(inputs[name]) for name in names if is_link(inputs.get(name))]
        return [link for link in found if self.has(link[0])]

    def balancing(self, collector: str) -> list[Link]:
        """Where a collector that does not say it itself is told whether one worker is to do it all."""
        inputs = self.inputs(collector)
        return [self.resolve(inputs[BALANCED])] if is_link(inputs.get(BALANCED)) else []

    def resolve(self, link: Link) -> Link:
        """The link behind nodes that only hand something on. Raises RegionError if these go in a circle."""
        passed: dict[str, None] = {}
        here = link
        while here[0] not in self.aliases and (further := passed_on(self.nodes.get(here[0]))) is not None:
            if here[0] in passed:
                raise self.cycle([*passed, here[0]])
            passed[here[0]] = None
            here = further
        here = self.aliases.get(here[0], here)
        for node_id in passed:
            self.aliases[node_id] = here
        return here

    def travels(self, link: Link) -> bool | None:
        """Whether what the link gives can go to another process; None: its type does not say."""
        node_class = self.class_of(link[0])
        if node_class in OPENERS or node_class in CLOSERS or node_class in (INFO, COLLECTOR):
            return True
        definition = self._info.get(node_class, {})
        output, slot = definition.get("output"), link[1]
        if not isinstance(output, (list, tuple)) or slot not in range(len(output)):
            return None if definition.get("open_outputs") is True else False
        kind = output[int(slot)]
        if not isinstance(kind, str):
            return True
        names = {name.strip() for name in kind.split(",")}
        if names <= TRAVELLING:
            return True
        return None if ANY_TYPE in names or names & TRAVELLING else False

    def is_output(self, node_id: str) -> bool:
        return self._info.get(self.class_of(node_id), {}).get("output_node") is True

    def gives(self, node_id: str) -> bool:
        """Whether the node has an output that can be linked to."""
        return bool(self._info.get(self.class_of(node_id), {}).get("output"))

    def order(self, node_ids: Iterable[str], sources: Mapping[str, Iterable[str]]) -> list[str]:
        """The nodes, each after its `sources`. Raises RegionError where they go in a circle."""
        waiting = dict.fromkeys(node_ids, 0)
        consumers: dict[str, list[str]] = {}
        for node_id in waiting:
            for source in sources[node_id]:
                waiting[node_id] += 1
                consumers.setdefault(source, []).append(node_id)
        ready = [node_id for node_id, count in waiting.items() if not count]
        for source in ready:
            for node_id in consumers.get(source, ()):
                waiting[node_id] -= 1
                if not waiting[node_id]:
                    ready.append(node_id)
        if len(ready) < len(waiting):
            done = set(ready)
            left = [node_id for node_id in waiting if node_id not in done]
            raise Circle(_circle({each: [s for s in sources[each] if s not in done] for each in left}))
        return ready

    def name(self, node_id: str) -> str:
        """A node as sentences call it."""
        node = self.nodes.get(node_id)
        meta = node.get("_meta") if isinstance(node, Mapping) else None
        title = meta.get("title") if isinstance(meta, Mapping) else None
        named = f"“{title:.60}”, " if isinstance(title, str) and title else ""
        return f"{shown_as(node_id, node)} ({named}{class_of(node)})"

    def shown(self, node_id: str) -> str:
        return shown_as(node_id, self.nodes.get(node_id))

    def cycle(self, nodes: list[str]) -> RegionError:
        """The error for nodes of which each takes what the one before gives."""
        named = [self.name(node_id) for node_id in nodes[:_CYCLE_SHOWN]]
        more = ["…"] if len(named) < len(nodes) else []
        return RegionError(
            f"These nodes wait for each other: {' → '.join([*named, *more, named[0]])}. Remove one of the links "
            "between them; a Listen counts as linked to its Broadcast.",
            self.shown(nodes[0]),
        )

    def inputs(self, node_id: str) -> Mapping[str, Any]:
        return inputs_of(self.nodes.get(node_id))


class Circle(Exception):
    """Nodes of which each takes what the one before gives."""

    def __init__(self, nodes: list[str]) -> None:
        super().__init__(nodes)
        self.nodes = nodes


def _circle(sources: Mapping[str, list[str]]) -> list[str]:
    """A cycle among nodes of which each has a source among them."""
    here = next(iter(sources))
    passed: dict[str, None] = {}
    while here not in passed:
        passed[here] = None
        here = sources[here][0]
    path = list(passed)
    return path[path.index(here) :][::-1]
