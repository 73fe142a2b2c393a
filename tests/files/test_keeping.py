"""Folders and what is put into them: identities, the cache, and files that are lent for a while."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from comfy_dist.files import placing
from comfy_dist.files.cache import Cache
from comfy_dist.files.identity import identify
from comfy_dist.workspace import MARK
from tests.support.patience import PATIENCE


def shown(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != MARK)


def test_who_shares_a_folder_finds_the_same_identity(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(identify, [tmp_path] * 32))
    assert len(found) == 1
    assert None not in found


def test_a_copy_of_a_folder_is_another_folder(tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.mkdir()
    identity = identify(one)
    shutil.copytree(one, tmp_path / "copy")
    shutil.move(one, tmp_path / "moved")
    assert identify(tmp_path / "copy") not in (None, identity)
    assert identify(tmp_path / "moved") == identity


@pytest.mark.parametrize("broken", [b"", b"{", b'{"id": "x", "key": "y", "inode": 1}', b"\xff"])
def test_a_broken_identity_is_made_anew(tmp_path: Path, broken: bytes) -> None:
    (tmp_path / MARK).mkdir()
    (tmp_path / MARK / "identity.json").write_bytes(broken)
    identity = identify(tmp_path)
    assert identity is not None
    assert identify(tmp_path) == identity


def test_a_folder_that_cannot_be_marked_is_shared_with_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / MARK).write_text("a file is in the way")
    assert identify(tmp_path) is None
    assert "its files are copied" in caplog.text


def keep(cache: Cache, key: str, size: int) -> Path:
    part = cache.part(key)
    part.write_bytes(bytes(size))
    return cache.keep(key, part, 1_000_000_007)


def test_the_cache_forgets_what_was_used_longest_ago(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 100)
    assert cache.find("a") is None
    for key in ("a", "b", "c"):
        assert keep(cache, key, 30).stat().st_mtime_ns == 1_000_000_007
    assert cache.find("a") is not None
    keep(cache, "d", 30)
    assert shown(tmp_path / "cache") == ["a", "c", "d"]
    # What is larger than all the room there is can be used once.
    keep(cache, "large", 200)
    assert shown(tmp_path / "cache") == ["large"]
    keep(cache, "e", 30)
    assert shown(tmp_path / "cache") == ["e"]


def test_what_is_lent_goes_with_the_last_who_needs_it(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "input"
    source.write_bytes(b"content")
    folder.mkdir()
    identify(folder)
    target = folder / "x.png"
    before = folder.stat().st_mtime_ns
    one, other = placing.lend(source, folder, target), placing.lend(source, folder, target)
    assert one is not None
    assert other is not None
    assert target.read_bytes() == b"content"
    placing.give_back(folder, one)
    assert target.exists()
    placing.give_back(folder, other)
    assert not target.exists()
    assert source.read_bytes() == b"content"
    # No worker lists its files anew for that.
    assert folder.stat().st_mtime_ns == before


def test_a_file_of_the_folder_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "input"
    source.write_bytes(b"content")
    folder.mkdir()
    theirs = folder / "x.png"
    theirs.write_bytes(b"other")
    assert placing.lend(source, folder, theirs) is None
    assert not placing.put(source, folder, theirs)
    assert theirs.read_bytes() == b"other"
    same = folder / "y.png"
    same.write_bytes(b"content")
    held = placing.lend(source, folder, same)
    assert held is not None
    placing.give_back(folder, held)
    assert shown(folder) == ["x.png", "y.png"]


def test_what_took_the_place_of_a_lent_file_stays(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "input"
    source.write_bytes(b"content")
    folder.mkdir()
    held = placing.lend(source, folder, folder / "x.png")
    assert held is not None
    new = folder / "new"
    new.write_bytes(b"uploaded meanwhile")
    new.replace(folder / "x.png")
    placing.give_back(folder, held)
    placing.sweep(folder)
    assert (folder / "x.png").read_bytes() == b"uploaded meanwhile"


def test_what_a_killed_worker_lent_is_swept(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "input"
    source.write_bytes(b"content")
    folder.mkdir()
    if (child := os.fork()) == 0:
        placing.lend(source, folder, folder / "x.png")
        os._exit(0)
    os.waitpid(child, 0)
    assert shown(folder) == ["x.png"]
    placing.sweep(folder)
    assert shown(folder) == []


def test_many_lend_and_give_back_at_once_and_nothing_is_missing_or_left(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "input"
    source.write_bytes(b"content")
    folder.mkdir()
    barrier = threading.Barrier(6)

    def work(_: int) -> None:
        barrier.wait(PATIENCE)
        for _ in range(40):
            held = placing.lend(source, folder, folder / "x.png")
            assert held is not None
            assert (folder / "x.png").read_bytes() == b"content"
            placing.give_back(folder, held)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))
    placing.sweep(folder)
    assert shown(folder) == []


def test_a_file_that_is_put_has_its_name_at_once_and_its_time(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "output"
    source.write_bytes(b"content")
    os.utime(source, ns=(5_000_000_000, 7_000_000_000))
    folder.mkdir()
    assert placing.put(source, folder, folder / "sub" / "a.png")
    assert (folder / "sub" / "a.png").stat().st_mtime_ns == 7_000_000_000
    assert source.read_bytes() == b"content"


def test_in_a_folder_that_cannot_be_written_to_a_file_is_used_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    (folder / "x.png").write_bytes(b"content")
    # In the way of our marks, as a read-only file system would be.
    (folder / MARK).write_text("")
    held = placing.hold(folder, folder / "x.png")
    assert held is not None
    placing.give_back(folder, held)
    assert placing.hold(folder, folder / "y.png") is None
    assert (folder / "x.png").read_bytes() == b"content"
