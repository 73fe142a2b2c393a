"""Memory shared with processes of the same machine: a small ring, filled by the holder and emptied by the reader.

The reader makes a file in /dev/shm and names it in its request; the holder opens it, and that it can is the proof
that both see the same memory. From then on nobody needs the name, so it goes at once. The holder writes one slot
after another and says so with a byte on the HTTP connection; the reader copies it out and says so with a byte
back. So a transfer takes a few megabytes of shared memory whatever its size, and its pages stay warm. Both read
and write it as a file: a mapping of memory that another process cuts off would kill who touches it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from comfy_dist.tensors.errors import Refused, WayFailed

SHARED = Path("/dev/shm")  # noqa: S108 - what is made in it is opened by its owner alone
#: Bytes of a slot. Every piece of comfy_dist.tensors.slicing fills whole ones.
SLOT = 2**20
SLOTS = 4
#: Bytes from which a ring is worth its making.
LEAST = 2**20
_NAME = re.compile(r"comfy-dist-[0-9a-f]{32}")
#: Seconds after which a name that is still there was left by a reader that died.
_LEFT_SECONDS = 120.0


def host_id() -> str:
    """The boot id: equal for processes of one running machine. Empty where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def possible(folder: Path | None) -> bool:
    """Whether this system has what a ring needs."""
    return folder is not None and sys.platform == "linux" and folder.is_dir()


def slots(nbytes: int) -> int:
    """How many are filled for a tensor of so many bytes."""
    return -(-nbytes // SLOT)


@contextmanager
def ring(folder: Path) -> Iterator[tuple[Path, int]]:
    """A new ring, its memory set aside: its path and open file. Raises WayFailed where there is no room."""
    path = folder / f"comfy-dist-{secrets.token_hex(16)}"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise WayFailed(f"No memory can be shared in {folder} ({error.strerror}).") from None
    try:
        try:
            os.posix_fallocate(file, 0, SLOT * SLOTS)
        except OSError as error:
            raise WayFailed(f"{folder} has no {SLOT * SLOTS} bytes left ({error.strerror}).") from None
        yield path, file
    finally:
        os.close(file)
        path.unlink(missing_ok=True)


def open_ring(folder: Path | None, name: str) -> int:
    """The holder's end: the open file. Raises Refused: 409 if it is not there, or not ours alone."""
    if folder is None or not possible(folder) or not _NAME.fullmatch(name):
        raise Refused(409, "No memory is shared here.")
    try:
        file = os.open(folder / name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise Refused(409, f"The shared memory cannot be opened here ({error.strerror}).") from None
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_size != SLOT * SLOTS:
        os.close(file)
        raise Refused(409, "What was named is no shared memory.")
    return file


def fill(file: int, parts: Iterable[memoryview], connection: socket.socket) -> None:
    """The holder's side. Raises OSError when the reader is gone or silent for too long."""
    turn = 0
    for part in parts:
        for first in range(0, len(part), SLOT):
            if turn >= SLOTS and not connection.recv(1):
                raise ConnectionResetError("The reader is gone.")
            _write(file, part[first : first + SLOT], turn % SLOTS * SLOT)
            connection.sendall(b".")
            turn += 1


def _write(file: int, data: memoryview, place: int) -> None:
    while data:
        count = os.pwrite(file, data, place)
        data, place = data[count:], place + count


def empty_into(file: int, view: memoryview, filled: Callable[[int], bytes], connection: socket.socket) -> None:
    """The reader's side. `filled(n)` waits for bytes that say that slots are full, at most n. Raises WayFailed."""
    ready = 0
    for turn, first in enumerate(range(0, len(view), SLOT)):
        if not ready:
            ready = len(filled(SLOTS))
            if not ready:
                raise WayFailed("The holder broke off while it shared memory.")
        ready -= 1
        part = view[first : first + SLOT]
        if os.preadv(file, [part], turn % SLOTS * SLOT) != len(part):
            raise WayFailed("The shared memory is shorter than it was made.")
        if first + SLOT * SLOTS < len(view):
            connection.sendall(b".")


def sweep(folder: Path | None) -> None:
    """Unlink what readers left that died between making a ring and its use."""
    if folder is None or not possible(folder):
        return
    for path in folder.glob("comfy-dist-*"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if found.st_uid == os.geteuid() and time.time() - found.st_mtime > _LEFT_SECONDS:
                path.unlink()
