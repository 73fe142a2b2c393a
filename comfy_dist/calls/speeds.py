"""How fast workers were at a region, for the next time that it is executed: it need not find out again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import MutableMapping

#: Regions that are remembered, by their layouts.
REMEMBERED = 100

#: {layout: {worker's name, "" the parent: items per second}}. Absolute speeds change with what nodes are told, as a
#: number of steps; what counts is how those of the workers are to each other.
_known: OrderedDict[str, MutableMapping[str, float]] = OrderedDict()


def speeds_at(layout: str) -> MutableMapping[str, float]:
    """What is known, to be added to. Of this process alone, on one thread."""
    known = _known.setdefault(layout, {})
    _known.move_to_end(layout)
    if len(_known) > REMEMBERED:
        _known.popitem(last=False)
    return known
