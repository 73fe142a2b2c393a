"""The timeline of a prompt as an SVG: a lane for each rank, time to the right. A pure function of its spans."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from comfy_dist.messages import Span, SpanKind

#: In pixels: of the whole, where time begins and ends, of a lane, and of what stands above and below the lanes.
WIDTH = 920
LEFT, RIGHT = 190, 900
LANE, HEAD, FOOT = 42, 50, 64
#: A shorter span would not be seen, and a narrower one has no room for a letter.
NARROWEST, LETTER = 1.0, 6.6
#: Characters of a lane's name that have room.
NAME = 24

#: By kind: where in its lane it stands and how high it is, and what the legend calls it. Transfers go on beside
#: the execution of what comes next, hence the two rows.
ROWS = {
    SpanKind.QUEUE: (6, 16, "waits for a worker"),
    SpanKind.EXECUTE: (6, 16, "executes"),
    SpanKind.TRANSFER: (25, 7, "moves data"),
    SpanKind.NODE: (34, 4, "a node"),
}

STYLE = """
    text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; }
    .head { font-weight: 600; }
    .small { font-size: 11px; fill: #57606a; }
    .paper { fill: #ffffff; }
    .line { stroke: #d0d7de; }
    .queue { fill: #eaeef2; stroke: #8c959f; stroke-dasharray: 3 2; }
    .execute { fill: #ddf4ff; stroke: #0969da; }
    .transfer { fill: #ffb77c; stroke: #bc4c00; stroke-width: 0.5; }
    .node { fill: #0969da; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .small { fill: #9da7b3; }
      .paper { fill: #0d1117; }
      .line { stroke: #30363d; }
      .queue { fill: #21262d; stroke: #768390; }
      .execute { fill: #0c2d4d; stroke: #4493f8; }
      .transfer { fill: #bd561d; stroke: #f0883e; }
      .node { fill: #4493f8; }
    }
"""


@dataclass(frozen=True, slots=True)
class Lane:
    """One rank on one worker."""

    rank: int
    worker: str
    spans: tuple[Span, ...]

    @property
    def seconds(self) -> dict[SpanKind, float]:
        """How long it did each, what went on at the same time counted once."""
        return {kind: _together(span for span in self.spans if span.kind is kind) / 1000 for kind in SpanKind}


def lanes_of(spans: Sequence[Span]) -> list[Lane]:
    """By rank, of one rank that several workers have been in turn by their beginnings."""
    found: dict[tuple[int, str], list[Span]] = {}
    for span in sorted(spans, key=lambda span: (span.rank, span.start)):
        found.setdefault((span.rank, span.worker), []).append(span)
    return [Lane(rank, worker, tuple(each)) for (rank, worker), each in found.items()]


def _together(spans: Iterator[Span]) -> int:
    """Milliseconds in which there was any of them."""
    whole, until = 0, 0
    for start, stop in sorted((span.start, span.stop) for span in spans):
        whole += max(0, stop - max(start, until))
        until = max(until, stop)
    return whole


def timeline(title: str, whole: Sequence[Span], spans: Sequence[Span]) -> str:
    """An SVG for light and dark pages, without scripts.

    `whole` is the prompt's own wait and execution, and the nodes that its worker executed, in a lane above
    those of the ranks' `spans`. Raises ValueError where both are empty.
    """
    lanes = lanes_of(spans)
    every = [*whole, *spans]
    if not every:
        raise ValueError("a timeline needs a span")
    start = min(span.start for span in every)
    # By clocks that differ a span may even end before it begins.
    length = max(1, max(max(span.start, span.stop) for span in every) - start)
    drawing = _Drawing(start, length)
    height = HEAD + LANE * (len(lanes) + bool(whole)) + FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="{_attribute(title)}">',
        f"  <style>{STYLE}  </style>",
        f'  <rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>',
        f'  <text class="head" x="20" y="28">{_text(title)}</text>',
        *drawing.axis(HEAD, height - FOOT),
    ]
    top = HEAD
    if whole:
        parts += drawing.lane(top, "prompt", "", whole)
        top += LANE
    for lane in lanes:
        parts += drawing.lane(top, lane.worker or "not taken", f"rank {lane.rank}", lane.spans)
        top += LANE
    parts += [*_legend(height - 20, every), "</svg>"]
    return "\n".join(parts) + "\n"


@dataclass(frozen=True, slots=True)
class _Drawing:
    """What begins at `start` and lasts `length`, both in milliseconds."""

    start: int
    length: int

    def x(self, moment: float) -> float:
        return LEFT + (RIGHT - LEFT) * (moment - self.start) / self.length

    def axis(self, top: int, bottom: int) -> Iterator[str]:
        step = _step(self.length / 1000)
        digits = max(0, -math.floor(math.log10(step)))
        for number in range(math.floor(self.length / 1000 / step) + 1):
            x = self.x(self.start + number * step * 1000)
            yield f'  <path class="line" d="M{x:.1f} {top}V{bottom}"/>'
            yield (
                f'  <text class="small" text-anchor="middle" x="{x:.1f}" y="{bottom + 16}">'
                f"{number * step:.{digits}f} s</text>"
            )

    def lane(self, top: int, name: str, below: str, spans: Sequence[Span]) -> Iterator[str]:
        yield f'  <path class="line" d="M20 {top}H{RIGHT}"/>'
        middle = top + (18 if below else 24)
        yield f'  <text x="20" y="{middle}">{_text(_cut(name))}<title>{_text(name)}</title></text>'
        if below:
            yield f'  <text class="small" x="20" y="{middle + 15}">{_text(below)}</text>'
        for span in spans:
            yield from self.span(top, span)

    def span(self, top: int, span: Span) -> Iterator[str]:
        offset, height, does = ROWS[span.kind]
        x = self.x(span.start)
        width = max(NARROWEST, self.x(span.stop) - x)
        what = ", ".join(filter(None, (span.name or does, span.node and f"node {span.node}")))
        after, took = (span.start - self.start) / 1000, (span.stop - span.start) / 1000
        says = f"{what}: {took:.3f} s, {after:.3f} s after the beginning"
        yield (
            f'  <rect class="{span.kind}" x="{x:.1f}" y="{top + offset}" width="{width:.1f}" height="{height}" '
            f'rx="{min(3, height // 2)}"><title>{_text(says)}</title></rect>'
        )
        if span.kind is SpanKind.EXECUTE and span.name:
            number = span.name.rpartition(" ")[2] if len(span.name) * LETTER > width - 6 else span.name
            if len(number) * LETTER <= width - 6:
                yield f'  <text class="small" x="{x + 4:.1f}" y="{top + offset + 12}">{_text(number)}</text>'


def _step(seconds: float) -> float:
    """Between lines of some ten, 1, 2 or 5 times a power of ten."""
    rough = seconds / 10
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def _legend(y: int, spans: Sequence[Span]) -> Iterator[str]:
    kinds = {span.kind for span in spans}
    x = LEFT
    for kind, (_, height, does) in ROWS.items():
        if kind in kinds:
            above = y - 4 - height / 2
            yield f'  <rect class="{kind}" x="{x}" y="{above:g}" width="22" height="{height}" rx="2"/>'
            yield f'  <text class="small" x="{x + 28}" y="{y}">{does}</text>'
            x += 60 + round(len(does) * LETTER)


def _cut(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"


def _text(text: str) -> str:
    # XML has no form for most control characters, and a picture no use for the others.
    return escape("".join(letter if letter.isprintable() else " " for letter in text))


def _attribute(text: str) -> str:
    return _text(text).replace('"', "&quot;")
