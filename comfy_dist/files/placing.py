"""Files put into a folder: for good, or as long as somebody needs them there. All of it blocks."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from comfy_dist.workspace import MARK

try:
    import fcntl
except ImportError:  # Windows: no locks there; what was lent stays until a worker starts.
    fcntl = None  # type: ignore[assignment]


def move(source: Path, folder: Path, target: Path) -> bool:
    """Give a file its name in `folder` or below it; False, and nothing moved, where that name is taken."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _near(source, folder) as near:
        placed = _link(near, target)
    if placed:
        source.unlink(missing_ok=True)
    return placed


def lend(source: Path, folder: Path, target: Path) -> int | None:
    """Let a file be found as `target` until `give_back`, by the descriptor that is returned.

    None where another file has that name. Processes may share the folder and what is lent: it goes with the last.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    while True:
        if not target.exists():
            with _near(source, folder) as near:
                if _link(near, target):
                    _mark(folder, target)
        descriptor = hold(target)
        if descriptor is not None:
            if target.is_file() and _same(target, source):
                return descriptor
            os.close(descriptor)
            return None


def hold(target: Path) -> int | None:
    """Keep a file that is there, lent or not, from being given back; None where it has just gone."""
    try:
        descriptor = os.open(target, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        return None
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(descriptor), target.stat()):
            return descriptor
    os.close(descriptor)
    return None


def give_back(folder: Path, descriptor: int) -> None:
    os.close(descriptor)
    sweep(folder)


def sweep(folder: Path) -> None:
    """Remove what was lent in the folder and nobody holds, be it of a process that was killed."""
    marks = folder / MARK / "lent"
    with contextlib.suppress(FileNotFoundError):
        for mark in marks.iterdir():
            _take_away(folder, mark)


def _take_away(folder: Path, mark: Path) -> None:
    try:
        inode, _, name = mark.read_text("utf-8", "surrogateescape").partition(" ")
        target = folder / name
        descriptor = os.open(target, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        mark.unlink(missing_ok=True)
        return
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # First the mark: as soon as the name is free, somebody may lend a file under it and mark that.
        mark.unlink(missing_ok=True)
        # Somebody may have put another file in its place, which is not ours to remove.
        if str(os.fstat(descriptor).st_ino) == inode:
            target.unlink(missing_ok=True)
    except (BlockingIOError, PermissionError):
        # Held: who holds it takes it away.
        return
    finally:
        os.close(descriptor)


def _mark(folder: Path, target: Path) -> None:
    """Say that a file was lent, for it must not be taken for one that belongs there."""
    try:
        inode = target.stat().st_ino
    except FileNotFoundError:
        # Taken away already, by the mark that the last one of that name had.
        return
    name = target.relative_to(folder).as_posix()
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    mark = folder / MARK / "lent" / digest
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(f"{inode} {name}", "utf-8", "surrogateescape")


@contextlib.contextmanager
def _near(source: Path, folder: Path) -> Iterator[Path]:
    """The file on the folder's file system, by another name; itself where it is there already."""
    if source.stat().st_dev == folder.stat().st_dev:
        yield source
        return
    near = folder / MARK / f".{secrets.token_hex(8)}.part"
    near.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copy2(source, near)
        yield near
    finally:
        near.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> bool:
    """A second name for the file; False where that is taken. Never half a file, and never another's replaced."""
    try:
        target.hardlink_to(source)
    except FileExistsError:
        return False
    except OSError:
        # A file system without links: reserve the name, then replace it.
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            return False
        part = target.with_name(f".{secrets.token_hex(8)}.part")
        shutil.copy2(source, part)
        part.replace(target)
    return True


def _same(one: Path, other: Path) -> bool:
    """Whether two files are one, or the copy that was made of the other."""
    a, b = one.stat(), other.stat()
    if os.path.samestat(a, b):
        return True
    if a.st_size != b.st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        return hashlib.file_digest(first, "sha256").digest() == hashlib.file_digest(second, "sha256").digest()
