"""What a prompt broadcasts to the workflows that it has executed elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from comfy_dist.calls.classes import BROADCASTS, PUBLISH, RUNS
from comfy_dist.calls.errors import RegionError
from comfy_dist.calls.links import class_of, inputs_of, links_of
from comfy_dist.calls.listens import DEFAULT_CHANNEL
from comfy_dist.calls.planning import restore
from comfy_dist.calls.unfolding import Unfolded


def published(prompt: Mapping[str, Any], targets: Sequence[str]) -> dict[str, frozenset[str]]:
    """The channels, and of each the nodes that all its Broadcasts come after: what these have executed waits for
    them in vain. Of none where the prompt executes nothing elsewhere. No targets: all nodes."""
    if not any(class_of(node) in BROADCASTS for node in prompt.values()):
        return {}
    restored = restore(prompt)
    if not targets or any(class_of(prompt.get(target)) in RUNS for target in targets):
        targets = tuple(restored)
    try:
        unfolded = Unfolded(restored, targets)
    except RegionError:
        # The job fails of it.
        return {}
    found: dict[str, frozenset[str]] = {}
    for node_id in unfolded.needed:
        inputs = inputs_of(unfolded.nodes[node_id])
        channel = inputs.get("channel", DEFAULT_CHANNEL)
        if inputs.get(PUBLISH) is True and isinstance(channel, str):
            before = _before(unfolded.nodes, node_id)
            found[channel] = found.get(channel, before) & before
    return found


def _before(nodes: Mapping[str, Any], node_id: str) -> frozenset[str]:
    """Those that it depends on."""
    reached = [link[0] for _, link in links_of(nodes[node_id])]
    seen = set(reached)
    for each in reached:
        new = [link[0] for _, link in links_of(nodes.get(each)) if link[0] not in seen]
        seen.update(new)
        reached += new
    return frozenset(seen)
