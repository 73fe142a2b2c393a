"""Memory of large tensors that are gone, kept for a moment for the next ones.

The kernel clears what it gives anew, which takes longer than filling it.
"""

from __future__ import annotations

import mmap
import threading
import time
import weakref
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Bytes that are kept at most, and seconds that nobody has to want them for.
MOST = 256 * 2**20
KEEP_SECONDS = 30.0
#: Memory is made in steps of a huge page, so that batches of nearly the same size fit where others were.
STEP = 2 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    memory: mmap.mmap
    since: float


class Recycling:
    """Of one process. Any thread."""

    def __init__(self) -> None:
        #: The oldest first.
        self._kept: list[_Kept] = []
        # Garbage may be collected, and so come back here, in a thread that is here already.
        self._lock = threading.RLock()

    def array(self, size: int) -> npt.NDArray[np.uint8]:
        """Memory of that many bytes, with whatever is in it; it comes back when nobody has the array any more.
        Raises OSError where there is none."""
        memory = self._taken(size) or _new(size)
        array = np.frombuffer(memory, np.uint8, size)
        weakref.finalize(array, self._give, memory).atexit = False
        return array

    @property
    def kept(self) -> int:
        """Bytes that are kept."""
        with self._lock:
            return sum(len(each.memory) for each in self._kept)

    def trim(self, most: int = MOST, seconds: float = KEEP_SECONDS) -> None:
        """Let go of what is older, and of the oldest where there is more."""
        now = time.monotonic()
        with self._lock:
            kept = [each for each in self._kept if now - each.since < seconds]
            total = sum(len(each.memory) for each in kept)
            while total > most:
                total -= len(kept.pop(0).memory)
            self._kept = kept

    def _taken(self, size: int) -> mmap.mmap | None:
        """The smallest that is large enough, and wastes no more than half."""
        with self._lock:
            fitting = [each for each in self._kept if size <= len(each.memory) <= 2 * size]
            if not fitting:
                return None
            found = min(fitting, key=lambda each: len(each.memory))
            self._kept = [each for each in self._kept if each is not found]
            return found.memory

    def _give(self, memory: mmap.mmap) -> None:
        with self._lock:
            self._kept.append(_Kept(memory, time.monotonic()))
            self.trim()


def _new(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, -(-size // STEP) * STEP, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


recycling = Recycling()
