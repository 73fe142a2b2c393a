"""One JSON line for each figure."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence


def p50(values: Sequence[float]) -> float:
    return statistics.median(values)


def p99(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, round(len(values) * 0.99))]


def report(
    target: str,
    what: str,
    figure: float,
    unit: str,
    *,
    yardstick: float | None = None,
    of: str = "",
    bound: str = "",
) -> None:
    """Print a figure beside its yardstick; the ratio is figure / yardstick."""
    line = {"target": target, "what": what, "figure": round(figure, 3), "unit": unit}
    if yardstick is not None:
        line |= {"yardstick": round(yardstick, 3), "of": of, "ratio": round(figure / yardstick, 3)}
    if bound:
        line["bound"] = bound
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
