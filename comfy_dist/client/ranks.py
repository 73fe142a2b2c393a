"""Who helps with a prompt, and how far each is: folded from the event distributed_progress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: In the order of interest.
STATES = ("running", "failed", "waiting", "done")


@dataclass(frozen=True, slots=True)
class Rank:
    """One rank of a region, on the worker that takes part as it."""

    region: str = ""
    rank: int = 0
    #: Name of the worker; "" while none has taken it.
    worker: str = ""
    state: str = "running"
    #: The node it executes, and how far that is.
    node: str | None = None
    value: float = 0.0
    max: float = 1.0

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Rank:
        """Raises ValueError and TypeError for what no worker of ours sends."""
        state = str(data.get("state") or "running")
        if state not in STATES:
            raise ValueError(f"{state} is no state of a rank")
        node = data.get("node")
        return cls(
            region=str(data.get("region") or ""),
            rank=int(data.get("rank") or 0),
            worker=str(data.get("worker") or ""),
            state=state,
            node=None if node is None else str(node),
            value=float(data.get("value") or 0),
            max=float(data.get("max", 1)),
        )

    @property
    def place(self) -> tuple[str, int]:
        return self.region, self.rank

    @property
    def fraction(self) -> float | None:
        """Of the node that it executes; whole when it is done, and not before: other nodes may come. None: most
        nodes do not tell."""
        if self.state == "done":
            return 1.0
        if self.state == "waiting" or self.max <= 0:
            return 0.0
        if self.max == 1 and not self.value:
            return None
        return max(0.0, min(0.99, self.value / self.max))

    def __str__(self) -> str:
        return f"rank {self.rank} {self.worker}".rstrip()


class Ranks:
    """Those of the regions that have not ended."""

    def __init__(self) -> None:
        self._ranks: dict[tuple[str, int], Rank] = {}
        #: Of a region's items, how many are done.
        self._items: dict[str, tuple[int, int]] = {}

    def hear(self, data: Mapping[str, Any]) -> None:
        try:
            if "items" in data:
                self._count(str(data["region"]), int(data["done"]), int(data["items"]))
            else:
                self._put(Rank.of(data))
        except (KeyError, TypeError, ValueError):
            return  # of a version that this one does not know

    def _count(self, region: str, done: int, items: int) -> None:
        self._items[region] = done, items
        if done >= items:
            self._forget(region)

    def _put(self, rank: Rank) -> None:
        self._ranks[rank.place] = rank
        if all(each.state == "done" for each in self._ranks.values() if each.region == rank.region):
            self._forget(rank.region)

    def _forget(self, region: str) -> None:
        self._items.pop(region, None)
        self._ranks = {place: rank for place, rank in self._ranks.items() if rank.region != region}

    def replace(self, running: Iterable[Rank]) -> None:
        self._ranks = {rank.place: rank for rank in running}

    @property
    def items(self) -> str:
        """How many of the items that ranks share are done: "12/24 items"; "" where nothing is shared."""
        done, items = (sum(each) for each in zip(*self._items.values(), strict=True)) if self._items else (0, 0)
        return f"{done}/{items} items" if items else ""

    @property
    def shown(self) -> list[Rank]:
        """Those that run first."""
        return sorted(self._ranks.values(), key=lambda rank: (STATES.index(rank.state), *rank.place))
