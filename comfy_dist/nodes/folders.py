"""Where nodes read and write files: the workspace's folders, which no name can leave."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from comfy_dist.errors import ComfyDistError
from comfy_dist.workspace import PathRefused, Workspace, inside, split_annotation

Buffer: TypeAlias = bytes | memoryview

#: "00041" of "picture_00041_.png", and of "picture_41.png".
_NUMBER = re.compile(r"(\d+)(?:_|\.|$)", re.ASCII)

_workspace: Workspace | None = None
_save_metadata = True


class NotSaved(ComfyDistError):
    """A file that the disk did not take: it is full or read-only, or the name too long."""


def use(workspace: Workspace, *, save_metadata: bool = True) -> None:
    """Work in this workspace from now on; the engine calls it before it loads nodes."""
    global _workspace, _save_metadata
    _workspace = workspace
    _save_metadata = save_metadata


def workspace() -> Workspace:
    if _workspace is None:
        raise RuntimeError("comfy_dist's nodes have no workspace yet; their engine sets it before it loads them.")
    return _workspace


def save_metadata() -> bool:
    """Whether saved files carry the prompt and workflow."""
    return _save_metadata


def folder(type_: str) -> Path:
    """The folder of input, output or temp files."""
    return workspace().folder(type_)


def annotated(name: str) -> Path:
    """The path of "a.png" (in input) or "a.png [output]". Raises PathRefused outside its folder."""
    plain, type_ = split_annotation(name)
    return inside(folder(type_), plain)


def exists(name: object) -> bool:
    """Whether it is an annotated name, and that of a file."""
    try:
        return isinstance(name, str) and annotated(name).is_file()
    except (PathRefused, OSError):
        # The system's error is that the name is too long for a file.
        return False


@dataclass(frozen=True, slots=True)
class SavePlace:
    """Where files of a prefix are saved: "<folder>/<name>_<number>_.<extension>"."""

    folder: Path
    name: str
    #: The first number after those in use.
    number: int
    #: `folder` relative to the root it was asked for.
    subfolder: str
    #: The prefix with its variables filled in.
    prefix: str


def save_place(
    prefix: str, root: Path, width: int = 0, height: int = 0, *, number: int | None = None
) -> SavePlace:
    """Where to save under `prefix`, which may name subfolders and hold %width%, %height%, %year%, …

    The folder is made, and searched for the next number unless `number` tells it. Raises PathRefused where
    the prefix leads out of `root`, and NotSaved where there can be no such folder.
    """
    prefix = fill_variables(prefix, width, height)
    path = Path(os.path.normpath(prefix))
    subfolder = "" if str(path.parent) == "." else path.parent.as_posix()
    try:
        inside(root, path.as_posix())
        # Not the parent of that: the prefix may be the folder itself, "." or "a/..".
        place = inside(root, subfolder)
    except PathRefused as error:
        raise PathRefused(
            f"The filename prefix {prefix!r} leads out of the folder {root.name}; "
            "use a name, or a subfolder of it and a name."
        ) from error
    try:
        place.mkdir(parents=True, exist_ok=True)
        if number is None:
            with os.scandir(place) as entries:
                number = next_number([entry.name for entry in entries], path.name)
    except OSError as error:
        raise NotSaved(f"There can be no folder for the filename prefix {prefix!r}: {error.strerror}.") from error
    return SavePlace(place, path.name, number, subfolder, prefix)


def fill_variables(prefix: str, width: int, height: int) -> str:
    """%width%, %height%, %year%, %month%, %day%, %hour%, %minute% and %second% in words."""
    if "%" not in prefix:
        return prefix
    now = time.localtime()
    values = {
        "width": str(width),
        "height": str(height),
        "year": str(now.tm_year),
        "month": f"{now.tm_mon:02}",
        "day": f"{now.tm_mday:02}",
        "hour": f"{now.tm_hour:02}",
        "minute": f"{now.tm_min:02}",
        "second": f"{now.tm_sec:02}",
    }
    return re.sub("%(" + "|".join(values) + ")%", lambda found: values[found[1]], prefix)


def next_number(names: list[str], name: str) -> int:
    """One more than the highest number among "<name>_<number>_…"."""
    start = os.path.normcase(name) + "_"
    highest = 0
    for each in names:
        # Output folders hold tens of thousands of files, few of them of this name.
        each = os.path.normcase(each)
        if each.startswith(start):
            found = _NUMBER.match(each, len(start))
            if found:
                highest = max(highest, int(found[1]))
    return highest + 1


def create_numbered(place: SavePlace, number: int, name: str, extension: str, content: Buffer) -> int:
    """Create "<name>_<number>_<extension>" exclusively, with the next number while another has it.

    Returns the number it got. Several workers may share the folder. Raises NotSaved.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        path = place.folder / f"{name}_{number:05}_{extension}"
        try:
            descriptor = os.open(path, flags, 0o666)
        except FileExistsError:
            number += 1
            continue
        except OSError as error:
            raise NotSaved(f"The file {path.name} cannot be made: {error.strerror}.") from error
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise NotSaved(f"The file {path.name} cannot be written: {error.strerror}.") from error
            raise
        return number
