"""A Listen takes what the Broadcast of its channel in the same prompt gives. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_dist.calls.classes import BROADCASTS
from comfy_dist.calls.errors import RegionError
from comfy_dist.calls.links import Link, class_of, inputs_of, is_link, natural, shown_as

DEFAULT_CHANNEL = "default"


class Channels:
    """Who broadcasts on which channel. One whose name comes through a link is known at run time alone."""

    def __init__(self, nodes: Mapping[str, Any]) -> None:
        self._broadcasts: dict[str, list[str]] = {}
        for node_id, node in nodes.items():
            if class_of(node) in BROADCASTS and (channel := _channel(node)) is not None:
                self._broadcasts.setdefault(channel, []).append(node_id)

    def heard_by(self, node: Any) -> list[Link]:
        """The outputs that a Listen could take. None: it asks at run time."""
        return [[node_id, 0] for node_id in self._broadcasts.get(_channel(node) or "", ())]

    def judge(self, node_id: str, node: Any) -> None:
        """Raises RegionError for a Listen that would have to choose."""
        found = sorted((str(link[0]) for link in self.heard_by(node)), key=natural)
        if len(found) > 1:
            shown = shown_as(node_id, node)
            raise RegionError(
                f"Node {shown} ({class_of(node)}) listens to channel '{_channel(node):.100}', and nodes "
                f"{', '.join(found[:10])} broadcast on it. Give each of them a channel of its own.",
                shown,
            )


def _channel(node: Any) -> str | None:
    channel = inputs_of(node).get("channel", DEFAULT_CHANNEL)
    return None if is_link(channel) else str(channel)
