"""What the chunks of a region have given, and who did each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from comfy_dist.calls.offered import Values
from comfy_dist.calls.shares import Chunk


class Results:
    """By chunks' indices. A chunk has a doer as soon as one says that it is done, results when these are here."""

    def __init__(self, closers: Iterable[str]) -> None:
        self.closers = tuple(closers)
        #: Who did each chunk: as of a pool, "" the parent, else a call.
        self.doers: dict[int, str] = {}
        self._kept: dict[int, dict[str, Values]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, index: object) -> bool:
        """Whether its results are here."""
        return index in self._kept

    def keep(self, index: int, who: str, results: Mapping[str, Values]) -> None:
        """By closing node what the chunk gave."""
        self.doers[index] = who
        self._kept[index] = dict(results)

    def awaited(self, index: int, who: str) -> bool:
        """Whether results of that chunk by `who` are still wanted."""
        return self.doers.get(index) == who and index not in self

    def undo(self, index: int) -> None:
        self.doers.pop(index, None)
        self._kept.pop(index, None)

    def by(self, who: str) -> list[int]:
        """The chunks that it did."""
        return [index for index, doer in self.doers.items() if doer == who]

    def items(self, chunks: Iterable[Chunk]) -> int:
        """How many items have results here."""
        return sum(chunk.items for chunk in chunks if chunk.index in self)

    def in_order(self, chunks: Iterable[Chunk]) -> dict[str, list[Values]]:
        """By closing node what each chunk gave; all are here."""
        chunks = tuple(chunks)
        return {closer: [self._kept[chunk.index][closer] for chunk in chunks] for closer in self.closers}
