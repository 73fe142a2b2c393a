"""`comfy.utils`: the progress bar and resizing."""

from __future__ import annotations

from typing import Any

from comfy_dist.engine.graph.running import report_progress
from comfy_dist.nodes.core.resize import common_upscale, lanczos, repeat_to_batch_size

__all__ = ["ProgressBar", "common_upscale", "lanczos", "repeat_to_batch_size"]


class ProgressBar:
    """Tells clients how far the node that makes it is. Updating raises when the prompt is interrupted."""

    def __init__(self, total: float, node_id: str | None = None) -> None:
        self.total = total
        self.current: float = 0
        self.node_id = node_id

    def update_absolute(self, value: float, total: float | None = None, preview: Any = None) -> None:
        """Progress is `value`; `preview` is (format, PIL image, longest side)."""
        if total is not None:
            self.total = total
        self.current = min(value, self.total)
        report_progress(self.current, self.total, preview, self.node_id)

    def update(self, value: float) -> None:
        self.update_absolute(self.current + value)
