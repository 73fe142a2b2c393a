"""The child's side of the frames: stdin and stdout taken away from prints and given to the protocol."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from comfy_dist.engine.frames import Decoder, pack


class Channel:
    """Frames to and from the worker. Sending is safe from any thread."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self._writing = writing
        self._waiting: list[bytes] = []
        self._lock = threading.Lock()

    @classmethod
    def take_over(cls) -> Channel:
        """Use fd 0 and 1 for frames; from now on stdin is empty and what is printed goes to stderr.

        The duplicates are not inherited, so a node's own subprocess can neither read nor write frames.
        """
        channel = cls(os.dup(0), os.dup(1))
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, 0)
        os.close(empty)
        sys.stdout.flush()
        os.dup2(2, 1)
        return channel

    def frames(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """What the worker sends, until its end of the pipe is closed."""
        decoder = Decoder()
        while True:
            try:
                data = os.read(self._reading, 1 << 18)
            except OSError:
                return
            if not data:
                return
            yield from decoder.feed(data)

    def queue(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        """Send with the next `send` or `flush`: several frames in one write."""
        frame = pack(header, body)
        with self._lock:
            self._waiting.append(frame)

    def send(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        self.queue(header, body)
        self.flush()

    def flush(self) -> None:
        with self._lock:
            if not self._waiting:
                return
            data = memoryview(b"".join(self._waiting))
            self._waiting.clear()
            try:
                while data:
                    data = data[os.write(self._writing, data) :]
            except OSError:
                # The worker is gone; the reader sees the same and ends the process.
                return
