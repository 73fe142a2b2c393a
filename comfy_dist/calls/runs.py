"""The hidden node that stands in front of a region's closing nodes, with the region's layout. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from typing import Any

from comfy_dist.calls.classes import BALANCED, CLOSERS, OPENERS, RUN, RUN_ALL, SHARED, Joining
from comfy_dist.calls.errors import RegionError
from comfy_dist.calls.graph import Circle, Graph
from comfy_dist.calls.layout import CHUNKS_PER_WORKER, Layout, Opener
from comfy_dist.calls.links import Link, Node, is_link, key_of, links_of, natural
from comfy_dist.calls.regions import Region, Regions

#: Of each kind of input that a Run node has.
MOST_LINKS = 64


def refuse_crossed(regions: Regions, order: Sequence[str]) -> None:
    """Raises RegionError where something inside a region waits for what is made of all its parts."""
    graph = regions.graph
    sources: dict[str, list[str]] = {
        node_id: [regions.closes(node_id).run]
        if node_id in regions.closed
        else [link[0] for link in graph.links(node_id)]
        for node_id in order
    }
    by_run = regions.by_run
    for run, region in by_run.items():
        sources[run] = [link[0] for link, _ in (*region.values.values(), *region.sides.values())]
    try:
        graph.order(sources, sources)
    except Circle as circle:
        nodes = circle.nodes
        at = next(index for index, node_id in enumerate(nodes) if node_id in by_run)
        region, before, closer = by_run[nodes[at]], nodes[at - 1], nodes[(at + 1) % len(nodes)]
        crossing = (*region.values.values(), *region.sides.values())
        taker = next(taker for link, taker in crossing if link[0] == before)
        through = "" if before == closer else f", through {graph.name(before)}"
        raise RegionError(
            f"Node {graph.name(taker)} takes a rank's part of the region that {_bounded(graph, region)}, "
            f"and also what {graph.name(closer)} makes of all its parts{through}. Give it both before the region "
            "is closed, or both after it.",
            graph.shown(taker),
        ) from None


def run_node(regions: Regions, region: Region) -> Node:
    """The Run node of a region. Raises RegionError for one that has too much at its edges."""
    graph = regions.graph
    _refuse_many(graph, region, region.closers, "closing nodes")
    _refuse_many(graph, region, region.outputs, "output nodes")
    values = _numbered(graph, region, "in", [link for link, _ in region.values.values()], "values from outside")
    names = {key_of(link): name for name, link in values.items()}
    sides = _numbered(graph, region, "side", [link for link, _ in region.sides.values()], "models from outside")
    watched = _numbered(graph, region, "watch", _ends(regions, region), "results to nodes outside")
    members = _sorted(region.members)
    # What shares give to a collector stays apart: it knows whose it is.
    closers: dict[str, Joining] = {
        each: CLOSERS.get(graph.class_of(each), "list") for each in _sorted(region.closers)
    }
    collectors = region.closers if region.shares else []
    layout = Layout(
        run=region.run,
        shown=graph.shown(min(region.closers or region.openers or region.infos, key=natural)),
        openers={each: _opener(graph, each, names) for each in _sorted(region.openers)},
        closers=closers,
        members=members,
        outputs={each: _content(regions, each) for each in _sorted(region.outputs)},
        held=tuple(each for each in members if regions.is_output(each) and regions.deeper(each, region)),
        infos=_sorted(region.infos),
        carried=_sorted(region.carried),
        links=names,
        aliases=_aliases(graph, (*region.members, *region.closers, *region.carried)),
        ranked=any(each == "list" for each in closers.values())
        or any(OPENERS[graph.class_of(each)].ranked for each in region.openers)
        or bool(region.infos),
        chunks_per_worker=_chunks_per_worker(graph, region),
        shares=region.shares,
        differing=tuple(each for each in members if region.shares and graph.class_of(each) in SHARED),
        balanced=any(graph.inputs(each).get(BALANCED) is True for each in collectors),
        balancing=_sorted({names[key_of(link)] for each in collectors for link in graph.balancing(each)}),
    )
    return {
        "class_type": RUN_ALL if region.outputs else RUN,
        "inputs": {"layout": layout.to_json(), **values, **sides, **watched},
        "override_display_id": layout.shown,
    }


def _sorted(node_ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(node_ids, key=natural))


def _numbered(graph: Graph, region: Region, name: str, links: Iterable[Link], what: str) -> dict[str, Link]:
    """The links as inputs `name_0`, …, each once and in an order of their own."""
    found = {key_of(link): link for link in links}
    _refuse_many(graph, region, found, what)
    ordered = sorted(found.values(), key=lambda link: (natural(link[0]), link[1]))
    return {f"{name}_{number}": link for number, link in enumerate(ordered)}


def _refuse_many(graph: Graph, region: Region, found: Sized, what: str) -> None:
    """Raises RegionError for more than a Run node, or a step, has inputs or outputs for."""
    if len(found) > MOST_LINKS:
        raise RegionError(
            f"The region that {_bounded(graph, region)} has {len(found)} {what}; {MOST_LINKS} are the most. "
            "Make it smaller, or two of it.",
            graph.shown(min(region.openers or region.infos or region.closers, key=natural)),
        )


def _bounded(graph: Graph, region: Region) -> str:
    """What opens the region, or closes it where nothing opens it."""
    opens = region.openers or region.infos
    nodes = " and ".join(f"node {graph.name(each)}" for each in _sorted(opens or region.closers))
    return f"{nodes} {'opens' if opens else 'closes'}"


def _opener(graph: Graph, node_id: str, names: dict[str, str]) -> Opener:
    node_class = graph.class_of(node_id)
    linked = {
        name: names[key_of(source)]
        for name, link in links_of(graph.nodes[node_id])
        if key_of(source := graph.resolve(link)) in names
    }
    return Opener(
        class_type=node_class,
        input=linked.pop(OPENERS[node_class].input, ""),
        given={name: value for name, value in graph.inputs(node_id).items() if not is_link(value)},
        linked=linked,
    )


def _ends(regions: Regions, region: Region) -> list[Link]:
    """What of the region has all of it before it: its key covers everything in the region."""
    graph = regions.graph
    ends = [link for closer in region.closers for link in graph.closed_links(closer)]
    for output in region.outputs:
        if output in regions.by_run or graph.gives(output):
            ends.append([output, 0])
        else:
            ends += graph.links(output)
    return ends


def _content(regions: Regions, output: str) -> dict[str, Any]:
    """What of an output node none of `_ends` covers."""
    graph = regions.graph
    if output in regions.by_run or graph.gives(output):
        return {}
    constants = {name: value for name, value in graph.inputs(output).items() if not is_link(value)}
    return {"class_type": graph.class_of(output), **constants}


def _aliases(graph: Graph, node_ids: Iterable[str]) -> dict[str, str]:
    sources = {link[0] for node_id in node_ids for _, link in links_of(graph.nodes.get(node_id))}
    return {each: key_of(graph.aliases[each]) for each in _sorted(sources & graph.aliases.keys())}


def _chunks_per_worker(graph: Graph, region: Region) -> int:
    """What the first opening node that says so asks for."""
    for each in _sorted(region.openers):
        asked = graph.inputs(each).get("chunks_per_worker")
        if type(asked) is int and asked > 0:
            return asked
    return CHUNKS_PER_WORKER
