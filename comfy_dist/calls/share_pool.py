"""Whose share of a workflow is done by whom: everyone's own, and what nobody else will do. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from comfy_dist.calls.shares import Chunk

#: Seconds that a share waits at least for its owner before another one takes it.
WAITS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Share:
    """One execution of a region. 0 is the parent's, whose worker need not be named."""

    number: int
    worker: str = ""
    id: str = ""


class SharePool:
    """The shares of a region, each a chunk of one item, whose index is the share's number.

    Who takes is "" (the parent) or a call's id; times are in seconds.

    Everyone gets its own share first. Another's it gets only where that one is gone or busy with something else,
    or has not begun for as long as a share takes.
    """

    def __init__(self, shares: Sequence[Share]) -> None:
        self.shares = tuple(shares)
        self.items = self.world = len(shares)
        self.chunks = tuple(
            Chunk(
                share.number,
                share.number,
                share.number + 1,
                rank,
                len(shares),
                (share.worker, share.id, str(share.number)) if share.number else (),
            )
            for rank, share in enumerate(shares)
        )
        self._chunk = {chunk.index: chunk for chunk in self.chunks}
        #: Who is called for a share: the parent for what is nobody else's.
        self._owner: dict[int, str] = {share.number: "" for share in shares if not share.worker}
        #: Whose owner does not come.
        self._free: set[int] = set()
        #: Share -> who has it, since when.
        self._held: dict[int, tuple[str, float]] = {}
        self._done: set[int] = set()
        self._begun: float | None = None
        self._longest = 0.0

    @property
    def finished(self) -> bool:
        return len(self._done) == len(self.shares)

    @property
    def left(self) -> bool:
        """Something is not taken by anybody."""
        return len(self._done) + len(self._held) < len(self.shares)

    def owned(self, number: int, who: str) -> None:
        """That share's owner was called."""
        self._owner[number] = who

    def unowned(self, coming: Collection[str]) -> None:
        """`coming`: the names of the workers that are likely to begin soon. Another's share is anybody's."""
        self._free.update(each.number for each in self.shares if each.worker and each.worker not in coming)

    def free(self, now: float) -> list[int]:
        """The shares that anybody may take, in order."""
        self._begun = now if self._begun is None else self._begun
        late = now - self._begun > max(WAITS_SECONDS, self._longest)
        left = [each.number for each in self.shares if self._is_left(each.number)]
        return left if late else [number for number in left if number in self._free]

    def outstanding(self, who: str) -> tuple[Chunk, ...]:
        """What it has taken and not done."""
        return tuple(self._chunk[number] for number, (holder, _) in sorted(self._held.items()) if holder == who)

    def not_begun(self, who: str, at: int | None) -> Chunk | None:
        """What it has taken and has yet to begin, the last that it began being `at` (None: it has begun none)."""
        return next((chunk for chunk in self.outstanding(who) if chunk.index != at), None)

    def take(self, who: str, now: float, *, free_in: float = 0.0, before: float | None = None) -> Chunk | None:
        """The next share for `who`, None: nothing for now. Who has one gets none ahead of time."""
        if free_in and self.outstanding(who):
            return None
        free = self.free(now)
        own = [number for number, owner in self._owner.items() if owner == who and self._is_left(number)]
        number = next(iter([*own, *free]), None)
        if number is None:
            return None
        self._held[number] = who, now
        return self._chunk[number]

    def done(self, index: int, who: str, now: float, took: float | None = None) -> bool:
        """The result of a share is there. False: `who` does not hold it, so the result is late or a duplicate."""
        holder, since = self._held.get(index, (None, now))
        if holder != who:
            return False
        del self._held[index]
        self._done.add(index)
        self._longest = max(self._longest, now - since)
        return True

    def lost(self, who: str) -> None:
        """What `who` holds, and what was kept for it, is anybody's."""
        held = [number for number, (holder, _) in self._held.items() if holder == who]
        for number in held:
            del self._held[number]
        self._free.update(held, (number for number, owner in self._owner.items() if owner == who))

    def undone(self, index: int) -> None:
        """The result of a share that was done cannot be had after all: it is anybody's."""
        if index in self._done:
            self._done.remove(index)
            self._free.add(index)

    def _is_left(self, number: int) -> bool:
        return number not in self._done and number not in self._held
