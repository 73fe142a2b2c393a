"""The graph as ComfyUI's page saves it, read into plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from comfy_dist.errors import ComfyDistError

MUTED = 2
BYPASSED = 4

#: Ids by which a subgraph's links name its own inputs and outputs.
INPUTS = "-10"
OUTPUTS = "-20"


class NotAGraph(ComfyDistError):
    """A workflow whose nodes or links cannot be read."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Link:
    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass(frozen=True, slots=True)
class Input:
    name: str
    type: str
    link: int | None = None
    #: Belongs to a widget: without a link the widget's value counts.
    widget: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    id: str
    type: str
    title: str
    mode: int
    inputs: tuple[Input, ...]
    #: Types of the outputs.
    outputs: tuple[str, ...]
    #: Values of the widgets: in the order of the widgets, or by name.
    values: list[Any] | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Graph:
    nodes: Mapping[str, Node]
    links: Mapping[int, Link]
    #: Of a subgraph: the names of its inputs.
    inputs: tuple[str, ...] = ()


def is_ui_format(workflow: Any) -> bool:
    return isinstance(workflow, dict) and isinstance(workflow.get("nodes"), list)


def read_graph(source: Mapping[str, Any]) -> Graph:
    """The workflow itself or one of its subgraph definitions."""
    with _readable():
        nodes = [_node(node) for node in source["nodes"]]
        links = dict(_link(link) for link in source.get("links") or ())
        inputs = tuple(str(each["name"]) for each in source.get("inputs") or ())
    return Graph({node.id: node for node in nodes}, links, inputs)


def read_subgraphs(workflow: Mapping[str, Any]) -> dict[str, Graph]:
    """{id: definition}; the id is what nodes that stand for the subgraph have as their type."""
    with _readable():
        definitions = (workflow.get("definitions") or {}).get("subgraphs") or ()
        return {str(each["id"]): read_graph(each) for each in definitions}


@contextmanager
def _readable() -> Iterator[None]:
    """What else a file may hold in its place is no graph."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise NotAGraph(
            f"The workflow's nodes or links cannot be read ({type(error).__name__}: {error}); "
            "save it again on ComfyUI's page."
        ) from None


def _node(node: Mapping[str, Any]) -> Node:
    values = node.get("widgets_values")
    if values is None:
        values = node.get("widgets_values_named")
    return Node(
        id=str(node["id"]),
        type=str(node["type"]),
        title=str(node.get("title") or ""),
        mode=int(node.get("mode") or 0),
        inputs=tuple(_input(each) for each in node.get("inputs") or ()),
        outputs=tuple(_type(each.get("type")) for each in node.get("outputs") or ()),
        values=values if isinstance(values, dict) else list(values or ()),
    )


def _input(slot: Mapping[str, Any]) -> Input:
    link = slot.get("link")
    return Input(
        name=str(slot["name"]),
        type=_type(slot.get("type")),
        link=None if link is None else int(link),
        widget=bool(slot.get("widget")),
    )


def _type(type_: Any) -> str:
    """Combos of old files have their list of choices as type; 0 and -1 mean any."""
    if isinstance(type_, list):
        return "COMBO"
    return type_ if isinstance(type_, str) and type_ else "*"


def _link(link: Any) -> tuple[int, Link]:
    """`[id, origin, slot, target, slot, type]`, or newer files' object."""
    if isinstance(link, dict):
        id_, *ends = (link[key] for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot"))
    else:
        id_, *ends = link[:5]
    origin, origin_slot, target, target_slot = ends
    return int(id_), Link(str(origin), int(origin_slot), str(target), int(target_slot))
