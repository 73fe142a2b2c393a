"""What this process may pull for the calls it executes, by content.

A node that receives a value has only its content's hash among its inputs, so that it is cached for as long as the
content is the same; where the value lies now, and by which right it is had, is here.
"""

from __future__ import annotations

import threading
from typing import Any

from comfy_dist.errors import ComfyDistError


class NotSent(ComfyDistError):
    """A value that no call at hand was sent."""


class Inbox:
    """Packed values by hash, each of the calls that may pull it. Any thread."""

    def __init__(self) -> None:
        self._packed: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def put(self, call: str, content: str, packed: Any) -> None:
        """`call` may have that content from where `packed` says (tensors/packing.py)."""
        with self._lock:
            self._packed.setdefault(content, {})[call] = packed

    def __contains__(self, content: str) -> bool:
        return content in self._packed

    def packed(self, content: str) -> Any:
        """What names it. Raises NotSent where nothing does."""
        with self._lock:
            if found := self._packed.get(content):
                return next(reversed(found.values()))
        raise NotSent("This value was sent to a call that is over.")

    def drop(self, call: str) -> None:
        """The call is over."""
        with self._lock:
            for content in [content for content, found in self._packed.items() if call in found]:
                del self._packed[content][call]
                if not self._packed[content]:
                    del self._packed[content]

    def __len__(self) -> int:
        return len(self._packed)
