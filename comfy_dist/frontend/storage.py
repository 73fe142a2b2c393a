"""Files written so that a reader, a crash or a second writer never sees half of one."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from comfy_dist.frontend.answers import Refused, TooLarge
from comfy_dist.workspace import PathRefused, inside

#: Bytes taken from a request at a time.
CHUNK = 2**18

#: Held while a name is looked up and taken, so that two uploads never take the same.
_placing = threading.Lock()


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def confined(folder: Path, *names: str) -> Path:
    """inside(), but 403 as ComfyUI answers for a path that leaves its folder."""
    try:
        return inside(folder, *names)
    except PathRefused as error:
        raise Refused(403, str(error), kind="path_refused") from None


def is_file(path: Path) -> bool:
    """Path.is_file, where a name too long for the file system is just not there."""
    try:
        return path.is_file()
    except OSError:
        return False


@contextlib.contextmanager
def usable_name() -> Iterator[None]:
    """What a client's name makes the file system say, as 400, and a full disk as 507."""
    try:
        yield
    except (NotADirectoryError, IsADirectoryError):
        raise Refused(400, "The name is a folder's, or needs a folder where a file is.") from None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOTEMPTY):
            raise Refused(400, "The file name cannot be used: it is too long or not allowed.") from None
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Refused(507, "The disk of this frontend is full.", kind="disk_full") from None
        raise


def make_folder(folder: Path) -> None:
    with usable_name():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(folder) from None


@contextlib.contextmanager
def part_file(folder: Path) -> Iterator[Path]:
    """The path of a new hidden file in `folder`, to be filled and placed; removed if it is left there."""
    make_folder(folder)
    path = folder / f".{secrets.token_hex(8)}.part"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


async def receive(chunks: AsyncIterator[bytes], part: Path, limit: int, digest: _Hash | None = None) -> int:
    """Write a request's bytes to `part`, never more than `limit`; how many there were."""

    def write(file: BinaryIO, chunk: bytes) -> None:
        if digest:
            digest.update(chunk)
        with usable_name():
            file.write(chunk)

    size = 0
    file = await asyncio.to_thread(part.open, "wb")
    try:
        async for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise TooLarge(limit, "--max-upload-size")
            await asyncio.to_thread(write, file, chunk)
    finally:
        await asyncio.to_thread(file.close)
    return size


def place(part: Path, target: Path, *, overwrite: bool) -> None:
    """Give a finished part file its name, at once; FileExistsError where the name is taken."""
    make_folder(target.parent)
    with _placing, usable_name():
        if target.is_dir():
            raise IsADirectoryError(target)
        if not overwrite and target.exists():
            raise FileExistsError(target)
        try:
            part.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with part_file(target.parent) as near:
                shutil.copyfile(part, near)
                near.replace(target)


def write_atomically(target: Path, content: bytes) -> None:
    with part_file(target.parent) as part:
        with usable_name(), part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        place(part, target, overwrite=True)
