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


def put(source: Path, folder: Path, target: Path) -> bool:
    """Give a file a name in `folder` or below it, for good; False where that name is taken.

    It stays where it was too: somebody may just be reading it. Where the file system can, both are one file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _near(source, folder) as near:
        return _link(near, target)


def lend(source: Path, folder: Path, target: Path) -> int | None:
    """Let a file be found as `target` until `give_back`, by the descriptor that is returned.

    None where another file has that name. Processes may share the folder and what is lent: it goes with the last.
    """
    with _alone(folder):
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            with _near(source, folder) as near, _unnoticed(target.parent):
                _link(near, target)
            _mark(folder, target).write_text(_marked(folder, target), "utf-8", "surrogateescape")
        return _hold(target) if target.is_file() and _same(target, source) else None


def hold(folder: Path, target: Path) -> int | None:
    """Keep a file that is there, lent or not, from being given back; None where there is none."""
    with _alone(folder):
        return _hold(target) if target.is_file() else None


def give_back(folder: Path, descriptor: int) -> None:
    os.close(descriptor)
    sweep(folder)


def sweep(folder: Path) -> None:
    """Remove what was lent in the folder and nobody holds, be it of a process that was killed."""
    if not (folder / MARK / "lent").is_dir():
        return
    with _alone(folder):
        for mark in (folder / MARK / "lent").iterdir():
            _take_away(folder, mark)


def _hold(target: Path) -> int:
    descriptor = os.open(target, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _take_away(folder: Path, mark: Path) -> None:
    marked = mark.read_text("utf-8", "surrogateescape")
    target = folder / marked.partition(" ")[2]
    if target.is_file() and _marked(folder, target) == marked:
        descriptor = os.open(target, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with _unnoticed(target.parent):
                target.unlink()
        except (BlockingIOError, PermissionError):
            # Held: who holds it takes it away.
            return
        finally:
            os.close(descriptor)
    # Else somebody has put another file in its place, which is not ours to remove.
    mark.unlink()


def _mark(folder: Path, target: Path) -> Path:
    """Says that a file was lent, for it must not be taken for one that belongs there."""
    name = target.relative_to(folder).as_posix()
    return folder / MARK / "lent" / hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _marked(folder: Path, target: Path) -> str:
    """Which file it was, and where."""
    return f"{target.stat().st_ino} {target.relative_to(folder).as_posix()}"


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Whoever else lends in the folder, or takes away, waits. Where it cannot be written to, nobody does."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            (folder / MARK / "lent").mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((folder / MARK / "lock").open("ab"))
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _unnoticed(folder: Path) -> Iterator[None]:
    """Change a folder without a trace in its time, by which workers see that they must list their files anew.

    What is lent belongs to one job, and is in nobody's list.
    """
    before = folder.stat()
    try:
        yield
    finally:
        os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


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
