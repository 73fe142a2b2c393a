"""When a job waited, moved data and executed, and where: what its timeline is drawn from."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, ValidationError

from comfy_dist.messages.base import Count, Message, Time

#: Spans that one end carries at most; some 100 bytes each.
MOST_SPANS = 500
#: Characters of a span's texts; what is longer is cut.
MOST_CHARACTERS = 200


def _cut(text: Any) -> Any:
    return text[:MOST_CHARACTERS] if isinstance(text, str) else text


_Text: TypeAlias = Annotated[str, BeforeValidator(_cut)]


class SpanKind(StrEnum):
    #: A call waited for a worker that takes it.
    QUEUE = "queue"
    #: Values or results of a chunk were on their way.
    TRANSFER = "transfer"
    #: A rank executed a chunk, or the whole call where it has none.
    EXECUTE = "execute"
    #: A single node was executed.
    NODE = "node"


class Span(Message):
    """From `start` to `stop`, in milliseconds since the epoch, by the clock of who wrote it down."""

    kind: SpanKind
    start: Time
    stop: Time
    #: What a person knows it as: "chunk 3", a node's class.
    name: _Text = ""
    #: Name of the worker that was busy with it, or waited for.
    worker: _Text = ""
    #: Of the region's ranks; 0 is the worker of the job itself.
    rank: Count = 0
    #: The node that clients see it at: the one executed; of a region the one that closes it, else that opens it.
    node: _Text = ""


def spans_of(values: Any) -> tuple[Span, ...]:
    """Those of the values that are spans, at most MOST_SPANS, by their beginnings.

    What is none is left out, a kind of a newer version too: for the sake of a picture no job's end is lost.
    Of too many, nodes go first, and of these and then of the others the shortest.
    """
    if not isinstance(values, (list, tuple)):
        return ()
    found = list(_readable(values))
    if len(found) > MOST_SPANS:
        found.sort(key=lambda span: (span.kind is SpanKind.NODE, span.start - span.stop))
    return tuple(sorted(found[:MOST_SPANS], key=lambda span: (span.start, span.stop)))


def _readable(values: Iterable[Any]) -> Iterable[Span]:
    for value in values:
        try:
            yield Span.model_validate(value)
        except ValidationError:
            continue


Spans: TypeAlias = Annotated[tuple[Span, ...], BeforeValidator(spans_of)]
