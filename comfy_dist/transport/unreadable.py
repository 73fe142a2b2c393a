"""What came and could not be read: set aside, counted by where it came from, and said now and then."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter

log = logging.getLogger(__name__)

#: Between two sentences about the same place.
SAY_SECONDS = 60.0
_CHARACTERS = 300


class Unreadable:
    """Counted since this process started; a stream is read again at each start, and so is what lies in it."""

    def __init__(self) -> None:
        #: Messages by the queue, stream or exchange they came from.
        self.counts: Counter[str] = Counter()
        self._said: dict[str, float] = {}

    def note(self, place: str, reason: object) -> None:
        """One more of that place. The reason may quote what a stranger sent."""
        self.counts[place] += 1
        now = time.monotonic()
        if now - self._said.get(place, -math.inf) >= SAY_SECONDS:
            self._said[place] = now
            log.warning(
                "A message of %s cannot be read and is set aside (%d so far): %s",
                place,
                self.counts[place],
                on_one_line(reason),
            )


def on_one_line(reason: object) -> str:
    """Short, and without what would upset a terminal or a log."""
    text = " ".join(str(reason).split())
    return "".join(each if each.isprintable() else "?" for each in text[:_CHARACTERS])
