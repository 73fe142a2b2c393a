"""The regions of a prompt: which node lies in which. Pure.

A node's level is the innermost region that it takes a part of. An opening node begins a region inside the one that
its input is in; a node that takes parts of two regions beside each other makes them one; a closing node is again
in the region around. So each link is looked at once, and once more for each region that it lies in.

What is executed once for each share (collecting.py) is one level for all collectors, of which each group of these
has a region: a node may be in several.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from comfy_dist.calls.classes import CLOSED, CLOSERS, INFO, OPENERS, SHARED
from comfy_dist.calls.collecting import Collecting, Groups
from comfy_dist.calls.errors import RegionError
from comfy_dist.calls.graph import Graph
from comfy_dist.calls.links import Link, is_link, natural

#: Regions inside each other: W workers would share W ** DEEPEST parts.
DEEPEST = 16


@dataclass(eq=False, slots=True)
class Region:
    """One region, or what was taken for one until a node made it one with another (`same`)."""

    around: Region | None
    depth: int
    #: Begun by a ClusterInfo: it is one only where a closing node makes it one.
    weak: bool = False
    #: Of all that is executed once for each share; or one group's region in it.
    shares: bool = False
    within: Region | None = None
    same: Region | None = None
    openers: list[str] = field(default_factory=list)
    closers: list[str] = field(default_factory=list)
    #: Output nodes, and after them the Run nodes of regions directly inside that end in output nodes.
    outputs: list[str] = field(default_factory=list)
    inside: list[Region] = field(default_factory=list)
    run: str = ""
    #: Found by `members.gather`.
    members: dict[str, None] = field(default_factory=dict)
    infos: dict[str, None] = field(default_factory=dict)
    #: Links from outside by their key, and who has them.
    values: dict[str, tuple[Link, str]] = field(default_factory=dict)
    sides: dict[str, tuple[Link, str]] = field(default_factory=dict)
    carried: dict[str, None] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        return self.same is None and bool(self.closers or self.outputs)

    @property
    def level(self) -> Region:
        """What the levels of its nodes are inside of."""
        return self.within or self


def find(region: Region) -> Region:
    """The region that it was made one with."""
    root = region
    while root.same is not None:
        root = root.same
    while region.same is not None:
        region.same, region = root, region.same
    return root


def around(region: Region) -> Region | None:
    return None if region.around is None else find(region.around)


class Regions:
    """The regions of the nodes `order`, sources first, that end in `targets`. Raises RegionError."""

    def __init__(
        self, graph: Graph, order: Sequence[str], targets: Collection[str], fresh: Callable[[str], str]
    ) -> None:
        self.graph = graph
        self._level: dict[str, Region | None] = {}
        #: What each closing node closes.
        self.closed: dict[str, Region] = {}
        #: Nodes that take parts of two regions of which it is not known how they lie to each other.
        self._unclear: list[tuple[str, Region, Region]] = []
        self._collecting = Collecting(graph, order)
        self._shares = Region(None, 1, shares=True)
        for node_id in order:
            self._level[node_id] = self._enter(node_id)
        self._clear_up()
        shared = [node_id for node_id in order if self._is_shared(self.level(node_id))]
        self._groups = Groups(graph, self._collecting, shared)
        self._of_group: dict[tuple[str, int], Region] = {}
        for group in sorted(self._groups.of_collector.values(), key=lambda group: group[1]):
            self._of_group.setdefault(group, Region(None, 1, shares=True, within=self._shares))
        for node_id in order:
            level = self.level(node_id)
            if node_id in self.closed:
                self.closes(node_id).closers.append(node_id)
            elif level is not None and graph.class_of(node_id) in OPENERS:
                level.openers.append(node_id)
        for node_id in targets:
            level = self.level(node_id)
            if level is self._shares:
                self._share_of(node_id).outputs.append(node_id)
            elif level is not None and (not level.weak or level.closers):
                level.outputs.append(node_id)
        #: Every one, those inside before those around them.
        self.all = self._in_order(fresh)
        self.by_run = {region.run: region for region in self.all}

    def level(self, node_id: str) -> Region | None:
        level = self._level.get(node_id)
        return None if level is None else find(level)

    def closes(self, closer: str) -> Region:
        group = self._groups.of_collector.get(closer)
        return find(self.closed[closer]) if group is None else self._of_group[group]

    def outermost(self, node_id: str) -> Region | None:
        """The outermost region that the node lies in."""
        here, found = self.level(node_id), None
        while here is not None:
            if here is self._shares:
                return self._share_of(node_id)
            found = here if here.exists else found
            here = around(here)
        return found

    def lies_in(self, node_id: str, region: Region) -> bool:
        """Whether the node is cloned with the region: it takes a part of it, or depends on the rank alone."""
        here = self.level(node_id)
        while here is not None:
            if here is region.level or here.weak:
                return True
            here = around(here)
        return False

    def deeper(self, node_id: str, region: Region) -> bool:
        """Whether a member of the region belongs to one inside it."""
        level = around(self.by_run[node_id]) if node_id in self.by_run else self.level(node_id)
        return level is not None and level is not region.level and not level.weak

    def is_output(self, node_id: str) -> bool:
        """Whether engines execute it wherever it stands."""
        run = self.by_run.get(node_id)
        return self.graph.is_output(node_id) if run is None else bool(run.outputs)

    def _enter(self, node_id: str) -> Region | None:
        node_class = self.graph.class_of(node_id)
        if node_id in self._collecting.collectors:
            self._collect(node_id)
            return None
        level = None
        for source, _ in self.graph.links(node_id):
            here = self.level(source)
            if node_id not in self._collecting.shared and self._is_shared(here):
                # It is executed where it stands, and so is that then.
                self._refuse_part(node_id, here)
                continue
            if here is not None:
                level = here if level is None else self._together(node_id, find(level), here)
        if node_id in self._collecting.before and (node_class in (*SHARED, INFO) or node_class in OPENERS):
            level = self._shares if level is None else level
        if node_class == INFO:
            return level or Region(None, 1, weak=True)
        if node_class in OPENERS:
            depth = 1 if level is None else level.depth + 1
            if depth > DEEPEST:
                raise RegionError(
                    f"Node {self.graph.name(node_id)} opens a region inside of {DEEPEST} others. Close some of "
                    "them before it.",
                    self.graph.shown(node_id),
                )
            return Region(level, depth)
        if node_class in CLOSERS and is_link(self.graph.inputs(node_id).get(CLOSED)):
            if level is None:
                raise RegionError(
                    f"Node {self.graph.name(node_id)} closes a region, but what it is given comes from no node "
                    f"that opens one. Put one before it ({', '.join(OPENERS)}), or remove it.",
                    self.graph.shown(node_id),
                )
            self.closed[node_id] = level
            return around(level)
        return level

    def _collect(self, collector: str) -> None:
        """A collector closes the shares, around which there is nothing."""
        graph = self.graph
        for link in graph.closed_links(collector):
            level = self.level(link[0])
            if level is not None and level is not self._shares:
                opener = self._an_opener(level)
                raise RegionError(
                    f"Node {graph.name(collector)} collects from inside of a region that node "
                    f"{graph.name(opener)} opens. Close that one before it ({', '.join(CLOSERS)}).",
                    graph.shown(collector),
                )
        self.closed[collector] = self._shares

    def _refuse_part(self, node_id: str, level: Region | None) -> None:
        """What is divided in each share, nothing outside of these can take parts of."""
        if level is not self._shares and level is not None:
            opener = self._an_opener(level)
            raise RegionError(
                f"Node {self.graph.name(node_id)} takes a part of what node {self.graph.name(opener)} divides for "
                "each worker before a collector, but is executed once, as it follows a collector or takes a part "
                f"of something else. Close that region before it ({', '.join(CLOSERS)}).",
                self.graph.shown(node_id),
            )

    def _is_shared(self, level: Region | None) -> bool:
        """Whether it is that of the shares, or inside of it."""
        while level is not None and level is not self._shares:
            level = around(level)
        return level is not None

    def _share_of(self, node_id: str) -> Region:
        """The region that a node of the shares is an output of."""
        return self._of_group[self._groups.of(node_id)]

    def _together(self, node_id: str, one: Region, other: Region) -> Region:
        """The level of a node that takes parts of both."""
        if one is other:
            return one
        if one.weak is not other.weak:
            return other if one.weak else one
        deep, flat = (one, other) if one.depth >= other.depth else (other, one)
        if not self._join(deep, flat):
            self._unclear.append((node_id, deep, flat))
        return find(deep)

    def _join(self, deep: Region, flat: Region) -> bool:
        """Make them one where they lie beside each other; False where neither that, nor one in the other."""
        here: Region | None = deep
        while here is not None and here.depth > flat.depth:
            here = around(here)
        if here is flat:
            return True
        if deep.shares or flat.shares or deep.depth != flat.depth or not _same_place(around(deep), around(flat)):
            return False
        flat.same = deep
        return True

    def _clear_up(self) -> None:
        """Regions that were made one later may have made it clear how others lie; outer ones first."""
        for _ in range(DEEPEST):
            if not self._unclear:
                return
            self._unclear = [
                (node_id, deep, flat)
                for node_id, deep, flat in self._unclear
                if not self._join(find(deep), find(flat))
            ]
        if self._unclear:
            node_id, deep, flat = self._unclear[0]
            openers = [self._an_opener(find(region)) for region in (deep, flat)]
            raise RegionError(
                f"Node {self.graph.name(node_id)} takes parts of two regions that cross: those of "
                f"{self.graph.name(openers[0])} and {self.graph.name(openers[1])}. Open both in the same place, "
                "or one inside the other.",
                self.graph.shown(node_id),
            )

    def _an_opener(self, region: Region) -> str:
        nodes = [node_id for node_id in self._level if self.level(node_id) is region]
        opening = (*OPENERS, *SHARED, INFO)
        return next((node_id for node_id in nodes if self.graph.class_of(node_id) in opening), nodes[0])

    def _in_order(self, fresh: Callable[[str], str]) -> list[Region]:
        """Every region, those inside before those around them, with its Run node's id and what is inside."""
        roots: dict[Region, None] = {}
        for node_id in self._level:
            here = self.level(node_id)
            if here is not None:
                roots[here] = None
                if here.weak and self.graph.class_of(node_id) == INFO:
                    here.infos[node_id] = None
        found = sorted([*roots, *self._of_group.values()], key=lambda region: -region.depth)
        for region in found:
            if not region.exists:
                continue
            region.run = fresh(f"{min(region.openers or region.infos or region.closers, key=natural)}.region")
            outer = around(region)
            if outer is self._shares:
                outer = self._share_of(region.openers[0])
            if outer is not None and region.outputs and (not outer.weak or outer.closers):
                outer.inside.append(region)
                outer.outputs.append(region.run)
        return [region for region in found if region.exists]


def _same_place(one: Region | None, other: Region | None) -> bool:
    """Whether regions in these two may be one; a weak one that is none in the end is no place of its own."""
    return one is other or all(region is None or region.weak for region in (one, other))
