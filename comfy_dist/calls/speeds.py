"""How fast this process, and each worker that has helped it, has been at regions of a kind.

Workers differ, and each knows best how it does: what it did the last time says how much of a region to give it at
first, before anything was measured. Models, sizes and steps may be others now, so it is only a first guess.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean
from typing import TypeAlias, TypeVar

from comfy_dist.calls.clones import NodeOf
from comfy_dist.calls.layout import Layout
from comfy_dist.calls.links import class_of

#: Kinds that are remembered, and others of each: the latest.
MOST = 256

#: Items per second that make sense: who is quicker has computed nothing, but found it in its cache.
LEAST_SPEED, MOST_SPEED = 1e-5, 1e3

#: The classes of a region's nodes.
Kind: TypeAlias = tuple[str, ...]

K = TypeVar("K")
V = TypeVar("V")


def kind_of(layout: Layout, node_of: NodeOf) -> Kind:
    return tuple(class_of(node_of(each)) for each in layout.members)


class Speeds:
    """Items per second. Any thread."""

    def __init__(self) -> None:
        self._own: dict[Kind, float] = {}
        #: By the id of the worker, which is that of one start of it.
        self._others: dict[Kind, dict[str, float]] = {}

    def of(self, kind: Kind) -> float | None:
        """This one's."""
        return self._own.get(kind)

    def of_others(self, kind: Kind) -> float | None:
        """Of each of the others that have helped with such a region, on average."""
        others = self._others.get(kind)
        return fmean(others.values()) if others else None

    def least_of(self, kind: Kind, workers: Iterable[str]) -> float | None:
        """That of the slowest of these workers, by id. None: not all of them have helped with such a region."""
        others = self._others.get(kind, {})
        found = [others.get(each) for each in workers]
        return min((each for each in found if each is not None), default=None) if all(found) else None

    def note(self, kind: Kind, speed: float) -> None:
        if usable(speed) is not None:
            _put(self._own, kind, speed)

    def note_other(self, kind: Kind, worker: str, speed: float) -> None:
        if usable(speed) is not None:
            others = self._others.get(kind, {})
            _put(others, worker, speed)
            _put(self._others, kind, others)


def usable(speed: float | None) -> float | None:
    """The speed, unless it makes no sense."""
    return speed if speed is not None and LEAST_SPEED <= speed <= MOST_SPEED else None


def _put(latest: dict[K, V], key: K, value: V) -> None:
    latest.pop(key, None)
    latest[key] = value
    if len(latest) > MOST:
        del latest[next(iter(latest))]
