"""The last lines of a worker's log, for who asks for them from elsewhere."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from comfy_dist.masking import without_secrets

#: Messages that are kept, and lines shown.
KEPT = 1000
#: Characters of a line that are kept.
LONGEST = 2000


class LogLines(logging.Handler):
    """Keeps what is logged in this process."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
        self._messages: deque[str] = deque(maxlen=KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(self.format(record))

    def last(self, count: int) -> list[str]:
        """The newest so many, the oldest of them first, without secrets: mostly nobody asks, so they go here."""
        lines = [line[:LONGEST] for text in self._messages for line in without_secrets(text).splitlines()]
        return lines[-count:] if count > 0 else []

    @contextmanager
    def kept(self) -> Iterator[None]:
        """From here to the end of the block."""
        root = logging.getLogger()
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)
