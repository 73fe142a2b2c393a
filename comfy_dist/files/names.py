"""Names that are unique in the cluster, for files that several machines would call the same.

"ComfyUI_00001_.png" of one worker becomes "ComfyUI_00001_5f2c9a01bd.png". The seal at its end is a keyed hash over
folder type, name, size and time of change: whoever has the folder's key can tell from the name alone which file is
meant, that it was named so by a participant, and that it has not changed since. Nothing has to be remembered.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import stat_result
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from comfy_dist.files.identity import Identity
from comfy_dist.workspace import FolderType, PathRefused, inside

_SEAL_CHARACTERS = 10
_SEALED = re.compile(r"(.*_)([0-9a-f]{10})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Named:
    """A file as nodes and clients name it."""

    type: str
    #: Below the type's folder, with slashes.
    name: str

    @classmethod
    def of(cls, value: dict[str, Any]) -> Named | None:
        """The file that an object of a node's output names: {filename, subfolder, type}."""
        filename, type_, subfolder = value.get("filename"), value.get("type"), value.get("subfolder") or ""
        if not isinstance(filename, str) or not filename or not isinstance(subfolder, str):
            return None
        if not isinstance(type_, str) or type_ not in get_args(FolderType):
            return None
        return cls(type_, f"{subfolder}/{filename}".replace("\\", "/").lstrip("/"))


def clustered(identity: Identity, file: Named, stat: stat_result) -> Named:
    """The file under its name in the cluster."""
    path = PurePosixPath(file.name)
    stem = path.stem if path.stem.endswith("_") else f"{path.stem}_"
    name = f"{stem}{_seal(identity, file, stat)}{path.suffix}"
    return Named(file.type, path.with_name(name).as_posix())


def find(folder: Path, identity: Identity | None, file: Named) -> Path | None:
    """The file in `folder` that a name in the cluster means; None where it has changed, or lies elsewhere."""
    path = PurePosixPath(file.name)
    sealed = _SEALED.fullmatch(path.stem)
    if identity is None or sealed is None:
        return None
    stem, seal = sealed.groups()
    for plain in (stem, stem[:-1]):
        if plain in ("", "."):
            continue
        meant = Named(file.type, path.with_name(plain + path.suffix).as_posix())
        try:
            found = inside(folder, meant.name)
            stat = found.stat()
        except (OSError, PathRefused):
            continue
        if found.is_file() and hmac.compare_digest(_seal(identity, meant, stat), seal):
            return found
    return None


def _seal(identity: Identity, file: Named, stat: stat_result) -> str:
    # Milliseconds: file systems keep times with different precision.
    text = f"{file.type}\0{file.name}\0{stat.st_size}\0{stat.st_mtime_ns // 1_000_000}"
    return hmac.new(identity.key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[
        :_SEAL_CHARACTERS
    ]


def renamed(value: Any, rename: Callable[[Named], Named]) -> Any:
    """What a node shows, any JSON, with the files that it names called otherwise."""
    if isinstance(value, list):
        return [renamed(each, rename) for each in value]
    if not isinstance(value, dict):
        return value
    file = Named.of(value)
    if file is None:
        return {key: renamed(each, rename) for key, each in value.items()}
    called = rename(file)
    if called == file:
        return value
    subfolder, _, filename = called.name.rpartition("/")
    return value | {"filename": filename, "subfolder": subfolder}


def named_in(value: Any) -> Iterator[Named]:
    """The files that what a node shows names."""
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from named_in(each)
    elif isinstance(value, dict):
        if (file := Named.of(value)) is not None:
            yield file
        else:
            yield from (file for each in value.values() for file in named_in(each))
