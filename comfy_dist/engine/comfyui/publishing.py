"""Files that ComfyUI wrote, put into the workspace under names that nobody else has or gets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, get_args

from comfy_dist.engine.comfyui.names import candidates
from comfy_dist.engine.comfyui.server import FileReference, Server, ServerFault, Unreachable
from comfy_dist.errors import ComfyDistError
from comfy_dist.workspace import FolderType, PathRefused, Workspace, inside

#: Files whose published names are known; of older ones a cached node's file is published again.
REMEMBERED = 20_000
#: Files that a ComfyUI on this machine keeps beside the published ones; of older ones only the names stay there.
KEPT = 1_000
#: Time of change of a file of which only the name has stayed.
_EMPTIED = 0


class Unpublished(ComfyDistError):
    """A file that a node named could not be put into the workspace."""


class Source(Protocol):
    """Where the files are that a ComfyUI names."""

    async def place(self, file: FileReference, target: Path) -> Path | None:
        """Put the file into the workspace, as `target` or in a free name beside it: where it is now.

        None: `target` is that very file.
        """
        ...


class Publisher:
    """Rewrites what nodes show: each file it names becomes one of the workspace."""

    def __init__(self, workspace: Workspace, source: Source) -> None:
        self._workspace = workspace
        self._source = source
        #: Nodes that are not executed again name their old files again.
        self._published: dict[FileReference, FileReference] = {}

    async def rewrite(self, value: Any, *, fresh: bool) -> Any:
        """`value`, any JSON, with its files published. `fresh`: a node has just written them.

        Raises Unpublished, and Unreachable.
        """
        return await self._rewrite(value, fresh, {})

    async def _rewrite(self, value: Any, fresh: bool, done: dict[FileReference, FileReference]) -> Any:
        """`done`: the files of this node, which may name one twice."""
        if isinstance(value, list):
            return [await self._rewrite(each, fresh, done) for each in value]
        if not isinstance(value, dict):
            return value
        file = _file(value)
        if file is None:
            return {key: await self._rewrite(each, fresh, done) for key, each in value.items()}
        here = done.get(file)
        if here is None:
            here = done[file] = await self._publish(file, fresh=fresh)
        return value | {"filename": here.name, "subfolder": here.subfolder, "type": here.type}

    async def _publish(self, file: FileReference, *, fresh: bool) -> FileReference:
        known = self._published.get(file)
        try:
            if known is not None and not fresh and await asyncio.to_thread(self._path(known).is_file):
                return known
            placed = await self._source.place(file, self._path(file))
        except PathRefused as error:
            raise Unpublished(f"The file {file} that ComfyUI names is left there: {error}") from None
        except Unreachable:
            raise
        except ServerFault as fault:
            raise Unpublished(f"The file {file} that ComfyUI names cannot be had: {fault}") from None
        except OSError as error:
            raise Unpublished(
                f"The file {file} that ComfyUI wrote cannot be put into the workspace: {error.strerror or error}."
            ) from None
        here = file if placed is None else FileReference(file.type, file.subfolder, placed.name)
        self._published[file] = here
        if len(self._published) > REMEMBERED:
            del self._published[next(iter(self._published))]
        return here

    def _path(self, file: FileReference) -> Path:
        if not file.name.strip(". ") or "/" in file.name or "\\" in file.name:
            raise PathRefused(f"{file.name!r} is not a file name.")
        return inside(self._workspace.folder(file.type), file.subfolder, file.name)


class LocalFiles:
    """Files of a ComfyUI on this machine, which writes to private folders.

    A file there takes room on the disk when its published name is deleted, or is on another disk. So old ones are
    emptied; their names stay, for by those ComfyUI numbers its next files.
    """

    def __init__(self, output: Path, temp: Path) -> None:
        self._folders = {"output": output, "temp": temp}
        #: In the order of placing.
        self._placed: dict[Path, None] = {}

    async def place(self, file: FileReference, target: Path) -> Path | None:
        folder = self._folders.get(file.type)
        if folder is None:
            # Its input folder is the workspace's.
            return None
        path = inside(folder, file.subfolder, file.name)
        return await asyncio.to_thread(self._place, path, target)

    def _place(self, path: Path, target: Path) -> Path:
        stat = path.stat()
        if stat.st_size == 0 and stat.st_mtime_ns == _EMPTIED:
            raise FileNotFoundError(errno.ENOENT, "it was deleted here, and its ComfyUI has no copy any more")
        placed = place_exclusively(path, target)
        self._placed.pop(path, None)
        self._placed[path] = None
        if len(self._placed) > KEPT:
            oldest = next(iter(self._placed))
            del self._placed[oldest]
            # Where there is no room even for that, whoever writes next says so.
            with contextlib.suppress(OSError), part_beside(oldest) as part:
                part.touch()
                os.utime(part, ns=(_EMPTIED, _EMPTIED))
                part.replace(oldest)
        return placed


class RemoteFiles:
    """Files of a ComfyUI anywhere, fetched by /view."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def place(self, file: FileReference, target: Path) -> Path | None:
        with part_beside(target) as part:
            opened = await asyncio.to_thread(part.open, "wb")
            try:
                fetched = await self._server.download(file, opened, target)
            finally:
                await asyncio.to_thread(opened.close)
            return await asyncio.to_thread(place_exclusively, part, target) if fetched else None


def place_exclusively(source: Path, target: Path) -> Path:
    """Give the content of `source` a name in `target`'s folder, its own or the next that is free; that path.

    Several workers may share the folder: a name is made only where nobody has it. The source stays, and where
    the file system can, both are one file on the disk.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    names = candidates(target.name, {entry.name for entry in target.parent.iterdir()})
    try:
        return _link(source, target.parent, names)
    except FileNotFoundError:
        raise
    except OSError:
        # Another file system, or one without links.
        with part_beside(target) as part:
            shutil.copyfile(source, part)
            return _rename(part, target.parent, names)


def _link(source: Path, folder: Path, names: Iterator[str]) -> Path:
    for name in names:
        with contextlib.suppress(FileExistsError):
            os.link(source, folder / name)
            return folder / name
    raise AssertionError("names do not end")


def _rename(part: Path, folder: Path, names: Iterator[str]) -> Path:
    """Reserve a name with an empty file, then replace that: never half a file under it."""
    for name in names:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            part.replace(folder / name)
            return folder / name
    raise AssertionError("names do not end")


@contextlib.contextmanager
def part_beside(target: Path) -> Iterator[Path]:
    """The path for a hidden file in target's folder; removed if it is left there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.parent / f".{secrets.token_hex(8)}.part"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _file(value: dict[str, Any]) -> FileReference | None:
    """The file that an object of a node's output names."""
    name, type_, subfolder = value.get("filename"), value.get("type"), value.get("subfolder") or ""
    if isinstance(name, str) and name and isinstance(type_, str) and isinstance(subfolder, str):
        if type_ not in get_args(FolderType):
            return None
        return FileReference(type_, subfolder.replace("\\", "/"), name)
    return None
