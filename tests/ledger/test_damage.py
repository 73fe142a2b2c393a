"""A ledger whose file is damaged, gone, or has no space."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from comfy_dist.ledger import DiskFull, Ledger, Renewed, Unusable
from comfy_dist.ledger.schema import VERSION
from comfy_dist.messages import Job
from tests.ledger.telling import PROMPT, finished, history, queue, submitted, tell
from tests.support.patience import PATIENCE
from tests.support.small_disk import fill, small_disk

WAITING = Job(id="waiting", prompt=PROMPT)
PAGE = 4096


async def filled(ledger: Ledger) -> None:
    """With what no compression makes small, and a job that is safe nowhere else."""
    letters = random.Random(1)
    for number in range(60):
        noise = {"1": {"class_type": "X", "inputs": {"text": letters.randbytes(8000).hex()}}}
        await tell(ledger, submitted(str(number), prompt=noise), finished(str(number)))
    await ledger.outbox.put(WAITING)
    await ledger.close()


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def garbage_as_header(path: Path) -> None:
    path.write_bytes(b"\xff" * 100 + path.read_bytes()[100:])


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwritten(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:PAGE] + bytes(range(256)) * ((len(content) - PAGE) // 256))


def of_another_version(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()


@pytest.mark.parametrize(
    "damage", [garbage, garbage_as_header, truncated, overwritten, of_another_version, Path.unlink]
)
async def test_a_file_that_cannot_be_used_is_set_aside_and_made_anew(
    ledger: Ledger, path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    await filled(ledger)
    damage(path)
    content = path.read_bytes() if path.exists() else None
    ledger = Ledger(path)
    await ledger.open()
    assert ledger.bookmark is None
    await tell(ledger, submitted("new"), finished("new"))
    assert list(await history(ledger)) == ["new"]
    await ledger.close()
    aside = path.with_suffix(".damaged")
    if content is None:
        assert not aside.exists()
    else:
        assert aside.read_bytes() == content
        assert str(aside) in caplog.text


async def test_what_is_safe_nowhere_else_is_saved_out_of_a_damaged_file(ledger: Ledger, path: Path) -> None:
    await filled(ledger)
    page_of(path, "jobs_by_rank").write(b"\xee" * PAGE)
    ledger = Ledger(path)
    await ledger.open()
    assert ledger.remaining == 0
    assert await ledger.outbox.rest() == [WAITING]
    await ledger.close()


def page_of(path: Path, table: str) -> PageWriter:
    connection = sqlite3.connect(path)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    connection.close()
    return PageWriter(path, root)


class PageWriter:
    def __init__(self, path: Path, number: int) -> None:
        self._path, self._at = path, (number - 1) * PAGE

    def write(self, content: bytes) -> None:
        with self._path.open("r+b") as file:
            file.seek(self._at)
            file.write(content)


def a_table(path: Path) -> None:
    page_of(path, "results").write(b"\xee" * PAGE)


def a_body(path: Path) -> None:
    """Somewhere within the last prompts, which are spread over the file's end."""
    with path.open("r+b") as file:
        file.seek(-PAGE * 12, os.SEEK_END)
        for _ in range(12):
            file.seek(200, os.SEEK_CUR)
            file.write(b"\xee" * 3000)
            file.seek(PAGE - 3200, os.SEEK_CUR)


@pytest.mark.parametrize("damage", [a_table, a_body])
async def test_damage_that_is_met_while_running_is_set_aside_too(
    ledger: Ledger, path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    await filled(ledger)
    damage(path)
    ledger = Ledger(path)
    await ledger.open()
    assert ledger.bookmark is not None  # a start does not look at everything
    with pytest.raises(Renewed, match="ask again in a moment"):
        await history(ledger)
    assert ledger.renewed.is_set()
    assert "is made anew, with what the event log still has" in caplog.text
    assert path.with_suffix(".damaged").exists()
    # What comes now stands behind much that is no longer there.
    assert await tell(ledger, submitted("late")) == []
    await ledger.rewind()
    await tell(ledger, submitted("a"), finished("a"))
    assert list(await history(ledger)) == ["a"]
    assert await ledger.outbox.rest() == [WAITING]
    await ledger.close()


async def test_rows_that_are_at_odds_are_damage_too(ledger: Ledger) -> None:
    await tell(ledger, submitted("a"), finished("a"))
    await history(ledger)
    ledger.expect("a")  # as if nobody had ever given that id
    await tell(ledger, submitted("a"))
    with pytest.raises(Renewed):
        await history(ledger)
    await ledger.rewind()
    assert await history(ledger) == {}


def deleted(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"")
    other.replace(path)


@pytest.mark.parametrize("how", [deleted, replaced])
async def test_a_file_that_is_deleted_while_running_is_noticed(
    ledger: Ledger,
    path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    how: Callable[[Path], None],
) -> None:
    monkeypatch.setattr("comfy_dist.ledger.ledger.LOOK_SECONDS", 0.05)
    await tell(ledger, submitted("a"), finished("a"))
    await ledger.outbox.put(WAITING)
    keeping = asyncio.create_task(ledger.keep())
    how(path)
    async with asyncio.timeout(PATIENCE):
        await ledger.renewed.wait()
    await ledger.rewind()
    await tell(ledger, submitted("b"), finished("b"))
    keeping.cancel()
    await ledger.close()
    assert "its file was deleted or replaced" in caplog.text
    again = Ledger(path)
    await again.open()
    assert list(await history(again)) == ["b"]
    assert await again.outbox.rest() == [WAITING]
    await again.close()


async def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(Unusable, match=r"The ledger .*ledger\.sqlite cannot be used: .*\.$"):
        await Ledger(tmp_path / "state" / "ledger.sqlite").open()


async def test_a_file_that_another_process_has_is_a_sentence(ledger: Ledger, path: Path) -> None:
    ledger_of_another = sqlite3.connect(path, timeout=0.01)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        ledger_of_another.execute("SELECT * FROM jobs")
    ledger_of_another.close()


# A full disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small") as folder:
        yield folder


async def test_a_full_disk_refuses_what_is_new_and_loses_nothing(
    disk: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfy_dist.ledger.ledger.RETRY_SECONDS", 0.05)
    caplog.set_level("INFO")
    ledger = Ledger(disk / "ledger.sqlite")
    await ledger.open()
    keeping = asyncio.create_task(ledger.keep())
    await tell(ledger, submitted("before"), finished("before"))
    await history(ledger)
    filler = fill(disk)
    noise = {"1": {"class_type": "X", "inputs": {"text": random.Random(1).randbytes(40_000).hex()}}}
    with pytest.raises(DiskFull, match=r"cannot be written: the disk is full\. Make space there\."):
        await ledger.outbox.put(Job(id="refused", prompt=noise))
    # What others accepted, and its end, is folded and kept.
    await tell(ledger, submitted("during", prompt=noise), finished("during"), submitted("waits", prompt=noise))
    assert list(await history(ledger)) == ["before"]
    assert [item[1] for item in (await queue(ledger))["queue_pending"]] == ["waits"]
    await until(lambda: "Until then nothing new is accepted" in caplog.text)
    filler.unlink()
    await until(lambda: "The ledger can be used again." in caplog.text)
    assert list(await history(ledger)) == ["before", "during"]
    assert (await queue(ledger))["queue_pending"][0][2] == noise
    await ledger.outbox.put(Job(id="accepted", prompt=noise))
    keeping.cancel()
    await ledger.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)
