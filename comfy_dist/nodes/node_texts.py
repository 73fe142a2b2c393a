"""Texts that nodes show below themselves on the page."""

from __future__ import annotations

from collections.abc import Callable

_show: Callable[[str, str], None] | None = None


def use(show: Callable[[str, str], None]) -> None:
    """Hand (node id, text) to `show` from now on; the engine calls it before it loads nodes."""
    global _show
    _show = show


def show(node_id: str, text: str) -> None:
    """Show the text below a node; nobody sees it where no engine listens."""
    if _show is not None:
        _show(node_id, text)
