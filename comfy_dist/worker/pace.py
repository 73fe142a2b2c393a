"""How much an engine finishes, by what it finished lately."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

#: Seconds that are looked back on.
WINDOW = 600
#: Seconds that are counted together, and how many such the window has.
SLOT = 10
_SLOTS = WINDOW // SLOT
#: Seconds before which little says much.
_LEAST = 60


class Pace:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        #: {slot: what was finished in it}.
        self._finished: Counter[int] = Counter()

    def count(self) -> None:
        """One more is finished."""
        self._forget()
        self._finished[self._slot] += 1

    @property
    def per_hour(self) -> float:
        self._forget()
        seconds = min(WINDOW, max(_LEAST, self._clock() - self._began))
        return self._finished.total() * 3600 / seconds

    @property
    def _slot(self) -> int:
        return int(self._clock() // SLOT)

    def _forget(self) -> None:
        for slot in [slot for slot in self._finished if slot <= self._slot - _SLOTS]:
            del self._finished[slot]
