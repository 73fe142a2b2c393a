"""What is found in queue and history, and what is not."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.ledger import JobState, Ledger, schema
from comfy_dist.ledger.words import MAX_LENGTH, MAX_WORDS, words
from comfy_dist.messages import Cancelled, Failed
from tests.ledger.telling import finished, history, started, submitted, tell

CASTLE = {
    "1": {"class_type": "CLIPTextEncode", "inputs": {"text": "A castle, by the sea; 城 no people"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}, "_meta": {"title": "Final picture"}},
}
BOAT = {"1": {"class_type": "LoadImage", "inputs": {"image": "old_boat.png"}}, "bad": "no node"}
PICTURE = {"2": {"images": [{"filename": "shot_00042_.png", "subfolder": "", "type": "output"}], "odd": 1}}


@pytest.fixture(params=["indexed", "plain"])
async def ledger(
    request: pytest.FixtureRequest, path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ledger]:
    """With four jobs; with FTS5, and as where SQLite has none."""
    if request.param == "plain":
        monkeypatch.setattr(schema, "has_fts5", lambda connection: False)
    ledger = Ledger(path)
    await ledger.open()
    await tell(ledger, submitted("c-1", prompt=CASTLE), started("c-1", "gpu-0123abcd"))
    await tell(ledger, finished("c-1", worker="gpu-0123abcd", outputs=PICTURE))
    await tell(
        ledger, submitted("b-1", prompt=BOAT), started("b-1", "gpu-box-89abcdef"), Failed(job_id="b-1", error={})
    )
    await tell(ledger, submitted("b-2", prompt=BOAT), started("b-2", "gpu-89abcdef"))
    await tell(ledger, Cancelled(job_id="b-2", started=True), submitted("b-3", prompt=BOAT))
    yield ledger
    await ledger.close()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("castle", ["c-1"]),
        ("CASTLE Sea", ["c-1"]),
        ("cast", ["c-1"]),
        ("final picture", ["c-1"]),
        ("saveimage", ["c-1"]),
        ("shot_00042_.png", ["c-1"]),
        ("castle shot", ["c-1"]),  # the one in the prompt, the other in what it made
        ("城", ["c-1"]),
        ("boat", ["b-1", "b-2"]),
        ("boat castle", []),
        ("astle", []),
        ("b-2", ["b-2"]),
        ("", ["c-1", "b-1", "b-2"]),
        ('" OR 1=1 --', []),
        ("*", []),
        ("NEAR(castle, 2) AND NOT text:boat^", []),
        ("'); DROP TABLE jobs; --", []),
        ("%", []),
        ("castle %", ["c-1"]),
        ("\x00", []),
    ],
)
async def test_what_is_asked_for_by_words(ledger: Ledger, query: str, found: list[str]) -> None:
    assert list(await history(ledger, query=query)) == found


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ({"states": (JobState.FINISHED,)}, ["c-1"]),
        ({"states": (JobState.FAILED, JobState.CANCELLED)}, ["b-1", "b-2"]),
        ({"worker": "gpu"}, ["c-1", "b-2"]),
        ({"worker": "gpu-box"}, ["b-1"]),
        ({"worker": "gpu-0123abcd"}, ["c-1"]),
        ({"worker": "gp"}, []),
        ({"worker": "*"}, []),
        ({"worker": "gpu-[0-9]*"}, []),
        ({"worker": "gpu", "query": "boat", "states": (JobState.CANCELLED,)}, ["b-2"]),
    ],
)
async def test_what_is_asked_for_by_state_and_worker(
    ledger: Ledger, search: dict[str, Any], found: list[str]
) -> None:
    assert list(await history(ledger, **search)) == found


async def test_what_is_found_is_paged_as_the_rest(ledger: Ledger) -> None:
    assert list(await history(ledger, 1, query="boat")) == ["b-2"]
    assert list(await history(ledger, 1, 0, query="boat")) == ["b-1"]
    assert list(await history(ledger, 5, 1, query="boat")) == ["b-2"]


async def test_what_waits_is_found_too(ledger: Ledger) -> None:
    from comfy_dist.ledger import Search, stored

    def found(connection: sqlite3.Connection) -> list[str]:
        condition, values = Search(query="boat", states=(JobState.PENDING,)).condition(connection)
        return [row.id for row in stored.rows(connection, f"WHERE {condition}", values)]

    assert await ledger.read(found) == ["b-3"]


@given(st.lists(st.text(), max_size=20))
def test_words_are_found_by_themselves(texts: list[str]) -> None:
    found = words(texts)
    assert len(found) == len(set(found)) <= MAX_WORDS
    for word in found:
        assert 0 < len(word) <= MAX_LENGTH
        assert words([word]) == [word]
        assert " " not in word


def test_a_book_in_a_prompt_costs_no_more_than_a_page() -> None:
    assert len(words([" ".join(str(number) for number in range(10**6))])) <= MAX_WORDS
