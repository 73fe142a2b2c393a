"""What clients see of a planned prompt: the nodes that they know. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeAlias

from comfy_dist.calls.classes import RANK, RUNS
from comfy_dist.calls.links import class_of, shown_as

#: {node id: what an output node showed}, mostly lists.
Outputs: TypeAlias = Mapping[str, Mapping[str, Any]]
#: {node id: {node_id, display_node, parent_node, real_node_id}}, as in ComfyUI's history.
Meta: TypeAlias = Mapping[str, Mapping[str, Any]]

#: The number of the chunk in the ids of clones, `{run id}.{chunk}.{node id}`; one for each region around the node.
_CHUNK = re.compile(r"\.region_*\.(\d+)\.")
#: Fields of an event that name one node.
_NODES = ("node", "display_node", "node_id", "display_node_id", "parent_node_id", "real_node_id")


def shown_in(prompt: Mapping[str, Any]) -> dict[str, str]:
    """The nodes of a prompt that clients see under other ids."""
    return {node_id: as_id for node_id, node in prompt.items() if (as_id := shown_as(node_id, node)) != node_id}


class Shown:
    """The ids under which clients see the nodes of one planned prompt."""

    def __init__(
        self, shown: Mapping[str, str], prompt: Mapping[str, Any] | None = None, *, is_call: bool = False
    ) -> None:
        """`prompt`: nodes that clients see, under their ids or those that they are shown as."""
        #: Grows with what events tell of clones.
        self._shown = dict(shown)
        self._prompt = prompt or {}
        self._is_call = is_call
        #: What began last, as clients know it.
        self._begun = ""

    @classmethod
    def of_call(cls, prompt: Mapping[str, Any]) -> Self:
        """Of the prompt of a call: what it shows, its parent's worker puts together."""
        shown = {
            node_id: as_id for node_id, node in prompt.items() if (as_id := shown_as(node_id, node)) != node_id
        }
        return cls(shown, prompt, is_call=True)

    def of(self, node_id: str) -> str:
        """The id under which clients see a node that an event was about."""
        return self._shown.get(node_id, node_id)

    def event(self, name: str, data: dict[str, Any]) -> dict[str, Any]:
        """The event with the ids that clients know. That of a clone becomes known by the first event about it."""
        node_id, display = data.get("node"), data.get("display_node")
        if isinstance(node_id, str) and isinstance(display, str) and node_id != display:
            self._shown.setdefault(node_id, self.of(display))
        if name == "executing" and isinstance(node_id, str):
            self._begun = self.of(node_id)
        nodes = data.get("nodes")
        if name == "progress_state" and isinstance(nodes, Mapping):
            # A client finds what a state is about in the state.
            return {**data, "nodes": {each: self._named(state) for each, state in nodes.items()}}
        expanded = data.get("node_type") in (*RUNS, RANK)
        data = self._named(data)
        if expanded and name in ("execution_error", "execution_interrupted") and self._begun:
            # Engines name the node that expanded into the one at fault.
            data["node_id"] = self._begun
            data["node_type"] = self._class_of(self._begun) or data["node_type"]
        for field in ("nodes", "executed"):
            if isinstance(ids := data.get(field), list):
                data[field] = list(dict.fromkeys(self.of(each) if isinstance(each, str) else each for each in ids))
        return data

    def merged(
        self, own: tuple[Outputs, Meta], calls: Iterable[tuple[Outputs, Meta]]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
        """What all output nodes showed, and about them: one entry for each node that clients know.

        Lists of a node's clones are put together in the order of the chunks, those of a region inside another
        within its chunk; of other values the first counts. Entries of calls that are of no clone are passed over:
        they are nodes of another workflow.
        """
        outputs, meta = own
        entries = {node_id: (entry, meta.get(node_id, {})) for node_id, entry in outputs.items()}
        for call_outputs, call_meta in calls:
            for node_id, entry in call_outputs.items():
                if _CHUNK.search(node_id):
                    entries.setdefault(node_id, (entry, call_meta.get(node_id, {})))
        together: dict[str, dict[str, Any]] = {}
        about: dict[str, dict[str, Any]] = {}
        for node_id, (entry, its_meta) in sorted(entries.items(), key=lambda each: _chunks(each[0])):
            shown = node_id if self._is_call else self._entry(node_id, its_meta)
            if shown == node_id:
                about[shown] = dict(its_meta)
            else:
                about.setdefault(shown, _meta_of(shown))
            _add(together.setdefault(shown, {}), entry)
        return together, {shown: its_meta for shown, its_meta in about.items() if its_meta}

    def _class_of(self, shown: str) -> str:
        """The class of the node that clients see under that id."""
        nodes = (node for node_id, node in self._prompt.items() if shown_as(node_id, node) == shown)
        return class_of(self._prompt.get(shown)) or next(map(class_of, nodes), "")

    def _entry(self, node_id: str, meta: Mapping[str, Any]) -> str:
        """The node that an entry belongs to. What nodes expand into by themselves keeps its own, as in ComfyUI."""
        if node_id not in self._shown and not _CHUNK.search(node_id):
            return node_id
        display = meta.get("display_node")
        if isinstance(display, str) and display != node_id:
            return self.of(display)
        return self.of(node_id) if node_id in self._shown else self.of(_CHUNK.split(node_id)[-1])

    def _named(self, data: Mapping[str, Any]) -> dict[str, Any]:
        shown = self._shown
        return {
            key: shown.get(value, value) if key in _NODES and isinstance(value, str) else value
            for key, value in data.items()
        }


def _chunks(node_id: str) -> tuple[int, ...]:
    """The chunk that a clone belongs to, outermost region first; () for others."""
    return tuple(map(int, _CHUNK.findall(node_id)))


def _meta_of(node_id: str) -> dict[str, Any]:
    return {"node_id": node_id, "display_node": node_id, "parent_node": None, "real_node_id": node_id}


def _add(together: dict[str, Any], entry: Mapping[str, Any]) -> None:
    for name, value in entry.items():
        if isinstance(value, (list, tuple)) and isinstance(together.get(name, []), list):
            together.setdefault(name, []).extend(value)
        else:
            together.setdefault(name, value)
