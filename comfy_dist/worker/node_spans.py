"""When an attempt executed which node, for its timeline."""

from __future__ import annotations

from typing import Any

from comfy_dist.messages import Prompt, Span, SpanKind

#: What took less is no matter of its timeline, and most jobs have nothing to keep then.
LEAST_MS = 50
#: Nodes that are kept of one attempt at most.
MOST = 1000


class NodeSpans:
    """Follows `executing` events: a node is timed until the next one begins. Times in ms since the epoch."""

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt
        self._node: str | None = None
        self._since = 0
        self._spans: list[Span] = []

    def executing(self, node: Any, now: int) -> None:
        """`node` is the one that clients see; None: the last one has ended."""
        shown = None if node is None else str(node)
        if shown == self._node:
            return
        if self._node is not None and now - self._since >= LEAST_MS and len(self._spans) < MOST:
            name = _name(self._prompt.get(self._node))
            self._spans.append(Span(kind=SpanKind.NODE, start=self._since, stop=now, name=name, node=self._node))
        self._node, self._since = shown, now

    def end(self, now: int) -> tuple[Span, ...]:
        """All of them, the last one ending now."""
        self.executing(None, now)
        return tuple(self._spans)


def _name(node: Any) -> str:
    """What a person knows it as."""
    if not isinstance(node, dict):
        return ""
    meta = node.get("_meta")
    return str((meta.get("title") if isinstance(meta, dict) else None) or node.get("class_type") or "")
