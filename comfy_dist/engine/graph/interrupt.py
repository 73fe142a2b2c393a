"""Whether the running prompt is to stop. Set by the reader thread, seen by the thread that executes."""

from __future__ import annotations


class InterruptProcessingException(Exception):
    """The prompt was interrupted."""


class Interrupt:
    """A flag; assignments to it are atomic, so it needs no lock.

    It stays set until the next prompt begins: a node that swallows the exception meets it again.
    """

    def __init__(self) -> None:
        self.requested = False

    def check(self) -> None:
        """Raise InterruptProcessingException if an interrupt was asked for."""
        if self.requested:
            raise InterruptProcessingException


#: A process executes one prompt at a time.
interrupt = Interrupt()
