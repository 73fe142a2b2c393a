"""What is to be executed once for each share: the nodes before a DistributedCollector. Pure.

All that leads to a collector belongs to its region, up to what a region that was closed before it gives, unless
something in that one differs between shares: then it is done once more in each. Collectors that take parts of the
same nodes have one region, or, where one comes after another, one each.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from comfy_dist.calls.classes import CLOSERS, COLLECTOR, INFO, OPENERS, SHARED, closed_inputs
from comfy_dist.calls.graph import Graph
from comfy_dist.calls.links import is_link


class Collecting:
    """The nodes `order` of a graph, sources first, by how they lie to the collectors among them."""

    def __init__(self, graph: Graph, order: Sequence[str]) -> None:
        self._graph = graph
        self.collectors = tuple(each for each in order if collects(graph, each))
        #: Nodes that a share may need for a collector.
        self.before: set[str] = set()
        #: Nodes that are executed once for each share. Those that only hang on them are too, but for what follows
        #: a collector, which is executed once, when all is there, and what is divided before none.
        self.shared: set[str] = set()
        #: How many collectors come one after another up to a node, a collector itself counted.
        self._stage: dict[str, int] = {}
        #: How many regions are open at a node inside of the shares, and how many inside of what is divided once.
        self._open: dict[str, tuple[int, int]] = {}
        if not self.collectors:
            return
        closed = frozenset(self.collectors)
        self._reach(_differing(graph, order, closed))
        for node_id in order:
            sources = [source for source, _ in graph.links(node_id)]
            stage = max(map(self.stage, sources), default=0)
            self._stage[node_id] = stage + (node_id in closed)
            self._open[node_id] = self._open_at(node_id, sources)
            if node_id not in closed and self._is_shared(node_id, sources, stage):
                self.shared.add(node_id)

    def stage(self, node_id: str) -> int:
        """1 for a collector that comes after no other, and so on; of another node that of the last before it."""
        return self._stage.get(node_id, 0)

    def _is_shared(self, node_id: str, sources: Sequence[str], stage: int) -> bool:
        shared = [source for source in sources if source in self.shared]
        if node_id in self.before:
            return bool(shared) or self._graph.class_of(node_id) in (*SHARED, *OPENERS, INFO)
        if self._open[node_id][1]:
            return False
        # What collectors have given must have come through shares too.
        return bool(shared) and max(map(self.stage, shared)) == stage

    def _open_at(self, node_id: str, sources: Sequence[str]) -> tuple[int, int]:
        """What is divided before no collector is divided once, whatever in it differs between shares."""
        shares = max((self._open[source][0] for source in sources), default=0)
        once = max((self._open[source][1] for source in sources), default=0)
        node_class = self._graph.class_of(node_id)
        if node_class in OPENERS:
            return (shares + 1, once) if shares or node_id in self.before else (shares, once + 1)
        if node_class in CLOSERS:
            return (shares, once - 1) if once else (max(0, shares - 1), 0)
        return shares, once

    def _reach(self, differing: set[str]) -> None:
        graph = self._graph
        waiting = [link[0] for each in self.collectors for link in graph.closed_links(each)]
        for node_id in waiting:
            given = collects(graph, node_id) or (graph.class_of(node_id) in CLOSERS and node_id not in differing)
            if node_id not in self.before and not given:
                self.before.add(node_id)
                waiting += [link[0] for link in graph.links(node_id)]


def collects(graph: Graph, node_id: str) -> bool:
    """Whether it is a collector that is given something."""
    if graph.class_of(node_id) != COLLECTOR:
        return False
    return any(is_link(graph.inputs(node_id).get(name)) for name in closed_inputs(COLLECTOR))


def _differing(graph: Graph, order: Sequence[str], collectors: frozenset[str]) -> set[str]:
    """The nodes that depend on what differs between shares. What a collector gives is the same for all."""
    found: set[str] = set()
    for node_id in order:
        if node_id not in collectors and (
            graph.class_of(node_id) in SHARED or any(source in found for source, _ in graph.links(node_id))
        ):
            found.add(node_id)
    return found


class Groups:
    """The nodes of the shares, of which those that belong together are one region."""

    def __init__(self, graph: Graph, collecting: Collecting, shared: Sequence[str]) -> None:
        """`shared`: the nodes that are cloned for each share, sources first."""
        self._collecting = collecting
        self._root = {each: each for each in (*shared, *collecting.collectors)}
        for node_id in shared:
            for source, _ in graph.links(node_id):
                self._unite(node_id, source)
        for collector in collecting.collectors:
            for source, _ in graph.closed_links(collector):
                self._unite(collector, source)
        self.of_collector = {each: (self._find(each), collecting.stage(each)) for each in collecting.collectors}
        self._stages: dict[str, list[int]] = {}
        for root, stage in sorted(set(self.of_collector.values())):
            self._stages.setdefault(root, []).append(stage)

    def of(self, node_id: str) -> tuple[str, int]:
        """The group that executes a node of the shares: the first that comes after all that the node needs."""
        root = self._find(node_id)
        stages = self._stages[root]
        return root, stages[bisect_right(stages, self._collecting.stage(node_id))]

    def _unite(self, one: str, other: str) -> None:
        # What a collector gives makes nobody one with what it takes.
        if other in self._root and other not in self._collecting.collectors:
            self._root[self._find(one)] = self._find(other)

    def _find(self, node_id: str) -> str:
        root = node_id
        while self._root[root] != root:
            root = self._root[root]
        while self._root[node_id] != root:
            self._root[node_id], node_id = root, self._root[node_id]
        return root
