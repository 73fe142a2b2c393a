"""The timeline of a job, from its end in the log to what is asked for."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from comfy_dist.ledger import Ledger, Retention, stored
from comfy_dist.messages import Finished, Span, SpanKind, parse_event, spans_of
from comfy_dist.messages.trace import MOST_CHARACTERS, MOST_SPANS
from tests.ledger.telling import finished, history, started, submitted, tell

EXECUTED = Span(kind=SpanKind.EXECUTE, start=2000, stop=3500, name="chunk 1", worker="gpu-box", rank=1, node="4")


async def trace(ledger: Ledger, job_id: str) -> list[Any]:
    def read(connection: sqlite3.Connection) -> list[Any]:
        row = stored.find(connection, job_id)
        assert row is not None
        return stored.trace_of(connection, row)

    return await ledger.read(read)


def body(**more: Any) -> bytes:
    return json.dumps({"type": "finished", "job_id": "a"} | more).encode()


async def test_the_spans_of_a_job_are_kept_beside_its_history(ledger: Ledger) -> None:
    await tell(ledger, submitted("a"), started("a"), finished("a", spans=(EXECUTED,)))
    await tell(ledger, submitted("b"), started("b"), finished("b"))
    assert spans_of(await trace(ledger, "a")) == (EXECUTED,)
    assert await trace(ledger, "b") == []
    # The history is ComfyUI's, and as short as before.
    assert set((await history(ledger))["a"]) == {"prompt", "outputs", "status", "meta"}


async def test_a_ledger_built_again_has_the_spans_of_its_log_and_no_others(ledger: Ledger) -> None:
    await tell(ledger, submitted("a"), finished("a", spans=(EXECUTED,)))
    assert await trace(ledger, "a")
    await ledger.rewind()
    # Another job comes first in the new log, and stands where that one stood.
    await tell(ledger, submitted("b"), finished("b"))
    assert await trace(ledger, "b") == []


async def test_spans_go_when_their_job_leaves_the_ledger(path: Path) -> None:
    ledger = Ledger(path, retention=Retention(seconds=0.001))
    await ledger.open()
    await tell(ledger, submitted("a"), finished("a", at=5, spans=(EXECUTED,)))
    assert await trace(ledger, "a")
    await ledger.prune()
    assert await ledger.read(lambda c: c.execute("SELECT count(*) FROM traces").fetchone()) == (0,)
    await ledger.close()


async def test_a_ledger_of_an_older_version_keeps_its_history_and_takes_spans(path: Path) -> None:
    ledger = Ledger(path)
    await ledger.open()
    await tell(ledger, submitted("old"), finished("old"))
    await ledger.close()
    before = sqlite3.connect(path)
    before.execute("DROP TABLE traces")
    before.commit()
    before.close()

    again = Ledger(path)
    await again.open()
    await tell(again, submitted("new"), finished("new", spans=(EXECUTED,)))
    assert set(await history(again)) == {"old", "new"}
    assert await trace(again, "old") == []
    assert spans_of(await trace(again, "new")) == (EXECUTED,)
    await again.close()


def test_no_end_is_lost_for_what_is_strange_in_its_timeline() -> None:
    good = json.loads(EXECUTED.model_dump_json())
    strange: list[Any] = [
        good | {"kind": "of a newer version"},
        good | {"start": "soon"},
        good | {"stop": -1},
        good | {"rank": -1},
        "no span",
        None,
    ]
    event = parse_event(body(spans=[*strange, good, good | {"from": "a newer version"}]))
    assert isinstance(event, Finished)
    assert event.spans == (EXECUTED, EXECUTED)
    for nonsense in ({}, "spans", 7, [[good]]):
        event = parse_event(body(spans=nonsense))
        assert isinstance(event, Finished)
        assert event.spans == ()


def test_of_too_many_spans_those_that_show_most_are_kept() -> None:
    nodes = [Span(kind=SpanKind.NODE, start=1 + n, stop=2 + n, node=str(n)) for n in range(2 * MOST_SPANS)]
    long_one = Span(kind=SpanKind.NODE, start=7000, stop=99_000, node="sampler")
    kept = spans_of([*nodes, long_one, EXECUTED])
    assert len(kept) == MOST_SPANS
    assert {long_one, EXECUTED} <= set(kept)
    assert list(kept) == sorted(kept, key=lambda span: span.start)


def test_a_text_of_any_length_is_cut_and_not_refused() -> None:
    (span,) = spans_of([EXECUTED.model_dump() | {"name": "x" * 100_000}])
    assert span.name == "x" * MOST_CHARACTERS
