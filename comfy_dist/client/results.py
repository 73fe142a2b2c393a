"""What prompts made: files and texts out of their outputs, and saving the files here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from comfy_dist.client.server import Server
from comfy_dist.errors import ComfyDistError, UsageError

#: What no file system takes, or takes for something else.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\/]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")
_LONGEST = 200


def files(outputs: dict[str, Any]) -> list[dict[str, str]]:
    """{filename, subfolder, type} of the files to keep: the saved ones, or the previews where none was saved."""
    found = list(_references(outputs))
    saved = [each for each in found if each.get("type") != "temp"]
    return saved or found


def _references(outputs: dict[str, Any]) -> Iterator[dict[str, str]]:
    for output in outputs.values():
        for entries in output.values() if isinstance(output, dict) else ():
            for entry in entries if isinstance(entries, list) else ():
                if isinstance(entry, dict) and isinstance(entry.get("filename"), str):
                    yield entry


def texts(outputs: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(node, text) that nodes show."""
    for node, output in outputs.items():
        for entry in (output or {}).get("text") or ():
            if isinstance(entry, str):
                yield node, entry


def name_on_server(reference: dict[str, str]) -> str:
    parts = (reference.get("type") or "output", reference.get("subfolder") or "", reference["filename"])
    return "/".join(part for part in parts if part)


def make_folder(folder: Path) -> None:
    """Raises UsageError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {folder} cannot be made: {error.strerror}.") from None


async def save(server: Server, reference: dict[str, str], folder: Path) -> Path:
    """Download into the folder, in the subfolder it has on the server; a file that is there is never replaced."""
    parts = [_clean(part) for part in re.split(r"[\\/]", reference.get("subfolder") or "")]
    target = folder.joinpath(*(part for part in parts if part), _clean(reference["filename"]) or "result")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        path = _reserve(target)
    except OSError as error:
        raise ComfyDistError(f"{target} cannot be written: {error.strerror}; choose another --output.") from None
    try:
        with path.open("wb") as file:
            await server.download(reference, file)
    except OSError as error:
        path.unlink()
        raise ComfyDistError(f"{path} cannot be written: {error.strerror}.") from None
    except BaseException:
        path.unlink()
        raise
    return path


def _clean(name: str) -> str:
    """A name without what would make it a path, hidden, or special."""
    name = _UNSAFE.sub("_", name).strip(" .")
    if len(name) > _LONGEST:
        suffix = Path(name).suffix[:20]
        name = name[: _LONGEST - len(suffix)] + suffix
    return f"_{name}" if _RESERVED.match(name) else name


def _reserve(target: Path) -> Path:
    """Create the file, numbered where the name is taken."""
    number = 0
    while True:
        path = target.with_name(f"{target.stem} ({number}){target.suffix}") if number else target
        try:
            path.open("xb").close()
        except FileExistsError:
            number += 1
        else:
            return path
