"""What output nodes inside of regions showed, for prompts in which an engine finds the region cached.

An engine repeats what a cached output node showed; that of clones, which nothing names in the prompt, it does not.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from pydantic_core import to_json

from comfy_dist.calls.classes import RUN_ALL
from comfy_dist.calls.links import class_of, inputs_of, links_of
from comfy_dist.messages import Prompt, StatusMessages

#: ({node id: what it showed}, {node id: more about it}).
Entries: TypeAlias = tuple[Mapping[str, Mapping[str, Any]], Mapping[str, Mapping[str, Any]]]

#: Regions that are remembered of one engine.
REMEMBERED = 200


class ShownBefore:
    """Kept by an engine's lane, for as long as its process lives."""

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, Entries] = OrderedDict()

    def forget(self) -> None:
        self._entries.clear()

    def added(self, prompt: Prompt, messages: StatusMessages, shown: Iterable[Entries]) -> list[Entries]:
        """What the regions showed that were cached; what those show that were executed is remembered.

        `prompt` as the engine had it, `messages` as it gave them, `shown` in it and in its calls.
        """
        cached = {
            node_id
            for name, data in messages
            if name == "execution_cached"
            for node_id in data.get("nodes", ())
            if isinstance(node_id, str)
        }
        shown = list(shown)
        found: list[Entries] = []
        keys: dict[str, bytes] = {}
        # No other Run has output nodes in its region.
        for run in [node_id for node_id, node in prompt.items() if class_of(node) == RUN_ALL]:
            _hash(prompt, run, keys)
            key = keys[run]
            if run in cached:
                if key in self._entries:
                    self._entries.move_to_end(key)
                    found.append(self._entries[key])
            elif (entries := _of_region(run, shown))[0]:
                self._entries[key] = entries
                self._entries.move_to_end(key)
                if len(self._entries) > REMEMBERED:
                    self._entries.popitem(last=False)
        return found


def _of_region(run: str, shown: Iterable[Entries]) -> Entries:
    outputs: dict[str, Mapping[str, Any]] = {}
    about: dict[str, Mapping[str, Any]] = {}
    for entries, meta in shown:
        for node_id, entry in entries.items():
            if node_id.startswith(f"{run}."):
                outputs.setdefault(node_id, entry)
                about.setdefault(node_id, meta.get(node_id, {}))
    return outputs, about


def _hash(prompt: Prompt, node_id: str, keys: dict[str, bytes]) -> None:
    """Add to `keys` hashes of the node and of each that it depends on, with all that those depend on."""
    waiting, entered = [node_id], set[str]()
    while waiting:
        each = waiting[-1]
        node = prompt[each]
        sources = [link[0] for _, link in links_of(node) if link[0] in prompt]
        missing = [source for source in sources if source not in keys]
        if missing and each not in entered and each not in keys:
            entered.add(each)
            waiting += missing
            continue
        waiting.pop()
        # An engine has executed it, so nothing goes in a circle.
        before = [keys[source].hex() for source in sources if source in keys]
        parts = [each, class_of(node), inputs_of(node), before]
        keys.setdefault(each, hashlib.blake2b(to_json(parts, inf_nan_mode="constants"), digest_size=16).digest())
