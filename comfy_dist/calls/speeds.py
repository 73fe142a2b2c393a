"""How fast this process has been at regions of a kind.

Workers differ, and each knows best how it does: what it did the last time says how much of a region to give it at
first, before anything was measured. Models, sizes and steps may be others now, so it is only a first guess.
"""

from __future__ import annotations

from typing import TypeAlias

from comfy_dist.calls.clones import NodeOf
from comfy_dist.calls.layout import Layout
from comfy_dist.calls.links import class_of

#: Kinds that are remembered, the latest.
MOST = 256

#: Items per second that make sense: who is quicker has computed nothing, but found it in its cache.
LEAST_SPEED, MOST_SPEED = 1e-5, 1e3

#: The classes of a region's nodes.
Kind: TypeAlias = tuple[str, ...]


def kind_of(layout: Layout, node_of: NodeOf) -> Kind:
    return tuple(class_of(node_of(each)) for each in layout.members)


class Speeds:
    """Items per second. Any thread."""

    def __init__(self) -> None:
        self._own: dict[Kind, float] = {}
        self._others: dict[Kind, float] = {}

    def of(self, kind: Kind) -> float | None:
        """This one's."""
        return self._own.get(kind)

    def of_others(self, kind: Kind) -> float | None:
        """Of each of the others that have helped with such a region, on average."""
        return self._others.get(kind)

    def note(self, kind: Kind, speed: float) -> None:
        _put(self._own, kind, speed)

    def note_others(self, kind: Kind, speed: float) -> None:
        _put(self._others, kind, speed)


def usable(speed: float | None) -> float | None:
    """The speed, unless it makes no sense."""
    return speed if speed is not None and LEAST_SPEED <= speed <= MOST_SPEED else None


def _put(speeds: dict[Kind, float], kind: Kind, speed: float) -> None:
    if usable(speed) is None:
        return
    speeds.pop(kind, None)
    speeds[kind] = speed
    if len(speeds) > MOST:
        del speeds[next(iter(speeds))]
