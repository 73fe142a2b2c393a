"""Workflows as ComfyUI's page saves them, turned into prompts as its page would.

A pure function of the file and the server's /object_info. What the page's scripts replace in texts when a
prompt is queued (`{a|b}`, `%date:yyyy%`) is left as it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from comfy_dist.errors import ComfyDistError
from comfy_dist.workflows.ui_graph import (
    BYPASSED,
    INPUTS,
    MUTED,
    OUTPUTS,
    Graph,
    Node,
    read_graph,
    read_subgraphs,
)
from comfy_dist.workflows.ui_widgets import CONTROLS, widget_values

Prompt = dict[str, dict[str, Any]]

#: Exist on the page only.
_NOTES = frozenset({"Note", "MarkdownNote"})
_VIRTUAL = _NOTES | {"Reroute", "PrimitiveNode"}


class MissingClasses(ComfyDistError):
    """The workflow has nodes that no live worker knows."""


class GoesInCircles(ComfyDistError):
    """Links or subgraphs that lead back to themselves."""


@dataclass(frozen=True, slots=True)
class _Place:
    """The workflow, or a subgraph as it stands at one node."""

    graph: Graph
    path: tuple[str, ...] = ()
    #: The node that stands for this subgraph, and where that is.
    host: Node | None = None
    outside: _Place | None = None

    def id(self, node: Node) -> str:
        return ":".join((*self.path, node.id))


@dataclass(frozen=True, slots=True)
class _Output:
    """Where an input's value comes from."""

    node: str
    slot: int


@dataclass(frozen=True, slots=True)
class _Value:
    value: Any


_Source = _Output | _Value | None


def to_prompt(workflow: Mapping[str, Any], object_info: Mapping[str, Any]) -> Prompt:
    """The prompt in API format. Raises MissingClasses, NotAGraph and GoesInCircles with one sentence each."""
    subgraphs = read_subgraphs(workflow)
    conversion = _Conversion(subgraphs)
    nodes = list(conversion.nodes(_Place(read_graph(workflow))))
    refuse_missing((node.type for _, node in nodes), object_info)
    prompt = {place.id(node): conversion.convert(place, node, object_info[node.type]) for place, node in nodes}
    # A link to what is muted, or to nothing any more, is none.
    for entry in prompt.values():
        for name, value in list(entry["inputs"].items()):
            if isinstance(value, list) and value[0] not in prompt:
                del entry["inputs"][name]
    return prompt


def refuse_missing(classes: Iterable[str], object_info: Mapping[str, Any]) -> None:
    """Raises MissingClasses where some are not there."""
    missing = sorted(set(classes) - object_info.keys())
    if missing:
        raise MissingClasses(_missing(missing))


def _missing(classes: list[str]) -> str:
    if any(name.startswith(("workflow>", "workflow/")) for name in classes):
        return (
            f"The workflow has group nodes ({', '.join(classes)}), which only the page can expand; "
            "convert them to subgraphs there and save again."
        )
    plural = "node classes" if len(classes) > 1 else "the node class"
    return (
        f"The workflow needs {plural} {', '.join(classes)}, which no live worker has; "
        "install the packs that bring them on a worker."
    )


class _Conversion:
    def __init__(self, subgraphs: Mapping[str, Graph]) -> None:
        self._subgraphs = subgraphs

    def nodes(self, place: _Place, entered: frozenset[str] = frozenset()) -> Iterator[tuple[_Place, Node]]:
        """The nodes that execute, subgraphs entered."""
        for node in place.graph.nodes.values():
            if node.mode in (MUTED, BYPASSED) or node.type in _VIRTUAL:
                continue
            if node.type not in self._subgraphs:
                yield place, node
            elif node.type in entered:
                raise GoesInCircles(f"The subgraph of node {place.id(node)} contains itself.")
            else:
                yield from self.nodes(self._within(place, node), entered | {node.type})

    def _within(self, place: _Place, host: Node) -> _Place:
        return _Place(self._subgraphs[host.type], (*place.path, host.id), host, place)

    def convert(self, place: _Place, node: Node, definition: Mapping[str, Any]) -> dict[str, Any]:
        inputs = {name: _literal(value) for name, value in widget_values(node, definition).items()}
        for slot, each in enumerate(node.inputs):
            match self._input(place, node, slot, each.type, frozenset()):
                case _Output(origin, origin_slot):
                    inputs[each.name] = [origin, origin_slot]
                case _Value(value):
                    inputs[each.name] = _literal(value)
        title = node.title or definition.get("display_name") or node.type
        return {"class_type": node.type, "inputs": inputs, "_meta": {"title": title}}

    def _input(self, place: _Place, node: Node, slot: int, type_: str, seen: frozenset[object]) -> _Source:
        """What an input is linked to; None where that is nothing."""
        step = (place.path, node.id, slot)
        if step in seen:
            raise GoesInCircles(f"The links at node {place.id(node)} lead back to it.")
        seen |= {step}
        if slot >= len(node.inputs):
            return None
        number = node.inputs[slot].link
        link = None if number is None else place.graph.links.get(number)
        if link is None:
            return None
        if link.origin == INPUTS:
            return self._from_outside(place, link.origin_slot, type_, seen)
        origin = place.graph.nodes.get(link.origin)
        return None if origin is None else self._output(place, origin, link.origin_slot, type_, seen)

    def _from_outside(self, place: _Place, slot: int, type_: str, seen: frozenset[object]) -> _Source:
        """An input of the subgraph: linked at the node that stands for it, or a value set there."""
        host, outside = place.host, place.outside
        if host is None or outside is None or slot >= len(place.graph.inputs):
            return None
        name = place.graph.inputs[slot]
        outer = next((index for index, each in enumerate(host.inputs) if each.name == name), None)
        if outer is not None and host.inputs[outer].link is not None:
            return self._input(outside, host, outer, type_, seen)
        return self._set_at_host(place, host, slot)

    def _set_at_host(self, place: _Place, host: Node, slot: int) -> _Source:
        """The value a subgraph's node has for one of its inputs; None: the inner widget's own counts."""
        name = place.graph.inputs[slot]
        if isinstance(host.values, dict):
            return _Value(host.values[name]) if name in host.values else None
        shown = [index for index in range(len(place.graph.inputs)) if self._is_widget(place.graph, index)]
        values = host.values
        if len(values) > len(shown):  # old files count the controls behind seeds too
            values = [value for value in values if value not in CONTROLS]
        if slot not in shown or shown.index(slot) >= len(values):
            return None
        return _Value(values[shown.index(slot)])

    def _is_widget(self, graph: Graph, slot: int) -> bool:
        for link in graph.links.values():
            if link.origin == INPUTS and link.origin_slot == slot:
                target = graph.nodes.get(link.target)
                if target is not None and link.target_slot < len(target.inputs):
                    return target.inputs[link.target_slot].widget
        return False

    def _output(self, place: _Place, node: Node, slot: int, type_: str, seen: frozenset[object]) -> _Source:
        if node.mode == MUTED:
            return None
        if node.mode == BYPASSED:
            through = _passes_through(node, slot, type_)
            if through is None:
                return None
            return self._input(place, node, through, node.inputs[through].type, seen)
        if node.type in self._subgraphs:
            inside = self._within(place, node)
            for link in inside.graph.links.values():
                if link.target == OUTPUTS and link.target_slot == slot and link.origin in inside.graph.nodes:
                    origin = inside.graph.nodes[link.origin]
                    return self._output(inside, origin, link.origin_slot, type_, seen)
            return None
        if node.type == "Reroute":
            return self._input(place, node, slot, type_, seen)
        if node.type == "PrimitiveNode":
            values = list(node.values.values()) if isinstance(node.values, dict) else node.values
            return _Value(values[0]) if values else None
        return None if node.type in _NOTES else _Output(place.id(node), slot)


def _passes_through(node: Node, slot: int, type_: str) -> int | None:
    """The input whose value a bypassed node gives out at `slot` for an input of `type_`."""
    inputs = node.inputs
    if not inputs:
        return None
    if type_ == "*":
        return slot if slot < len(inputs) else 0
    given = node.outputs[slot] if slot < len(node.outputs) else type_

    def fits(index: int) -> bool:
        return _connects(inputs[index].type, given) and _connects(inputs[index].type, type_)

    if slot < len(inputs) and fits(slot):
        return slot
    exact = (index for index, each in enumerate(inputs) if each.type == type_)
    return next(exact, next((index for index in range(len(inputs)) if fits(index)), None))


def _connects(one: str, other: str) -> bool:
    if "*" in (one, other):
        return True
    return bool(
        {each.strip().lower() for each in one.split(",")} & {each.strip().lower() for each in other.split(",")}
    )


def _literal(value: Any) -> Any:
    """Lists would be taken for links; ComfyUI unwraps this."""
    return {"__value__": value} if isinstance(value, list) else value
