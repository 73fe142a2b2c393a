"""What belongs to a region: the nodes that are cloned with it, and what they take from outside. Pure."""

from __future__ import annotations

from comfy_dist.calls.classes import CLOSING, INFO
from comfy_dist.calls.graph import Graph
from comfy_dist.calls.links import Link, key_of
from comfy_dist.calls.regions import Region, Regions


def gather(regions: Regions, region: Region) -> None:
    """Find what belongs to the region: its members, and what they take from outside. Those inside come first."""
    graph = regions.graph
    region.infos.clear()
    reached: list[tuple[str, Link]] = []

    def enter(node_id: str) -> None:
        if node_id in region.members:
            return
        region.members[node_id] = None
        reached.extend((node_id, link) for link in graph.links(node_id))
        if node_id in regions.closed:
            add(regions.closes(node_id))

    def add(inside: Region) -> None:
        if inside.run not in region.members:
            region.members[inside.run] = None
            for node_id in inside.closers:
                enter(node_id)
            ends(inside)

    def ends(of: Region) -> None:
        for inside in of.inside:
            add(inside)
        runs = {inside.run for inside in of.inside}
        for node_id in of.outputs:
            if node_id not in runs:
                enter(node_id)

    ends(region)
    reached += [(closer, link) for closer in region.closers for link in graph.closed_links(closer)]
    openers = frozenset(region.openers)
    for consumer, link in reached:
        source = link[0]
        if source in openers:
            continue
        if not graph.has(source):
            continue
        if graph.class_of(source) == INFO:
            region.infos[source] = None
        elif regions.lies_in(source, region):
            enter(source)
        else:
            _cross(graph, region, consumer, link)
    for opener in region.openers:
        for link in graph.links(opener):
            region.values.setdefault(key_of(link), (link, opener))
    for closer in region.closers:
        for link in graph.balancing(closer) if region.shares else ():
            region.values.setdefault(key_of(link), (link, closer))


def _cross(graph: Graph, region: Region, consumer: str, link: Link) -> None:
    """A link from outside: a value, or nodes that come along."""
    reached = [(consumer, link)]
    for taker, each in reached:
        # A share is whole: only what other regions give is made before, as that is made by many.
        travels = graph.class_of(each[0]) in CLOSING if region.shares else graph.travels(each)
        if travels is not False:
            region.values.setdefault(key_of(each), (each, taker))
        if travels is not True:
            if taker == consumer and travels is False:
                region.sides.setdefault(key_of(each), (each, taker))
            if each[0] not in region.carried:
                region.carried[each[0]] = None
                reached += [(each[0], further) for further in graph.links(each[0])]
