"""What the ledger forgets, and when."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from comfy_dist.ledger import Ledger, Retention, retention
from comfy_dist.messages import Cleared, now_ms
from tests.ledger.telling import finished, history, queue, started, submitted, tell

DAY = 86_400_000
WEEK = Retention(seconds=7 * 86400.0)


async def opened(path: Path, kept: Retention) -> Ledger:
    ledger = Ledger(path, retention=kept)
    await ledger.open()
    return ledger


def noise(seed: int) -> dict[str, Any]:
    """A prompt of 100 kB that takes 50."""
    return {"1": {"class_type": "X", "inputs": {"text": random.Random(seed).randbytes(50_000).hex()}}}


async def ended(ledger: Ledger, id_: str, days_ago: float, **more: Any) -> None:
    at = now_ms() - round(days_ago * DAY)
    await tell(ledger, submitted(id_, created_at=at - 1000, **more), finished(id_, at=at))


async def counted(ledger: Ledger, table: str) -> int:
    found: int = await ledger.read(lambda c: c.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    return found


async def test_what_is_older_than_the_retention_is_forgotten(path: Path) -> None:
    ledger = await opened(path, WEEK)
    await ended(ledger, "old", 8)
    await ended(ledger, "new", 6)
    await ledger.prune()
    assert list(await history(ledger)) == ["new"]
    assert [await counted(ledger, table) for table in ("submissions", "results", "words")] == [1, 1, 1]
    assert list(await history(ledger, query="old")) == []
    await ledger.close()


async def test_what_waits_or_runs_is_never_forgotten(path: Path) -> None:
    ledger = await opened(path, Retention(seconds=1.0, bytes=1))
    long_ago = now_ms() - 100 * DAY
    await tell(
        ledger, submitted("waits", created_at=long_ago), submitted("runs", created_at=long_ago), started("runs")
    )
    await ledger.prune()
    shown = await queue(ledger)
    assert [item[1] for item in shown["queue_pending"] + shown["queue_running"]] == ["waits", "runs"]
    assert shown["queue_pending"][0][2]
    await tell(ledger, finished("runs"))
    assert list(await history(ledger)) == ["runs"]
    await ledger.close()


async def test_a_late_event_of_what_is_forgotten_brings_nothing_back(path: Path) -> None:
    ledger = await opened(path, WEEK)
    await ended(ledger, "a", 8)
    await ledger.prune()
    await tell(ledger, submitted("a"), started("a"), finished("a"))
    assert (await history(ledger), ledger.remaining) == ({}, 0)
    assert await ledger.find("a") is not None
    await ledger.close()


async def test_an_id_is_free_again_after_twice_the_retention(path: Path) -> None:
    ledger = await opened(path, WEEK)
    await ended(ledger, "a", 15)
    await ledger.prune()
    await ledger.prune()
    assert await ledger.find("a") is None
    assert [await counted(ledger, table) for table in ("jobs", "submissions", "results", "words")] == [0] * 4
    await tell(ledger, submitted("a"))
    assert ledger.remaining == 1
    await ledger.close()


async def test_the_oldest_give_way_to_what_is_more_than_is_kept_and_the_file_stays_small(path: Path) -> None:
    ledger = await opened(path, Retention(bytes=2_000_000))
    for number in range(120):
        await ended(ledger, str(number), 0, prompt=noise(number))
        if number % 20 == 19:
            await ledger.prune()
    kept = list(await history(ledger))
    assert 20 < len(kept) < 60
    assert kept == [str(number) for number in range(120 - len(kept), 120)]
    await ledger.close()
    # All that was ever written are 6 MB.
    assert path.stat().st_size < 4_000_000


async def test_a_cleared_history_is_empty_at_once_and_its_space_is_used_again(path: Path) -> None:
    ledger = await opened(path, WEEK)
    for _ in range(3):
        for number in range(20):
            await ended(ledger, f"{random.random()}", 0, prompt=noise(number))
        await tell(ledger, Cleared())
        assert await history(ledger) == {}
        await ledger.prune()
        assert await counted(ledger, "submissions") == 0
    await ledger.close()
    assert path.stat().st_size < 2_000_000


async def test_pruning_lets_others_in_between(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "SLICE_SECONDS", 0.0)
    ledger = await opened(path, WEEK)
    for number in range(30):
        await ended(ledger, str(number), 8)
    walk = retention.Pruning(WEEK, now_ms())
    assert not await ledger.read(walk.step)
    assert 0 < len(await history(ledger)) < 30
    await ledger.prune()
    assert await history(ledger) == {}
    await ledger.close()
