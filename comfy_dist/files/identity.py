"""Which folder of the cluster a folder is: participants that find the same identity in it share it."""

from __future__ import annotations

import contextlib
import logging
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import Field, ValidationError

from comfy_dist.messages import Message
from comfy_dist.workspace import MARK, FolderType, Workspace

log = logging.getLogger(__name__)


class _Mark(Message):
    """What lies in the folder. `inode` is the mark's own: a copy of the folder is another folder."""

    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    key: str = Field(pattern=r"^[0-9a-f]{64}$")
    inode: int


@dataclass(frozen=True, slots=True)
class Identity:
    id: str
    #: Known to those that can read the folder; names of its files are sealed with it.
    key: bytes


def identify(folder: Path) -> Identity | None:
    """The folder's identity, made where it has none; None where it cannot be kept: then nobody shares it."""
    # In a hidden folder, so that no list of files shows it.
    path = folder / MARK / "identity.json"
    try:
        if (found := _read(path)) is None:
            _make(path)
            found = _read(path)
    except OSError as error:
        log.warning(
            "It cannot be known with whom %s is shared (%s); its files are copied.", folder, error.strerror
        )
        return None
    return found


def identities(workspace: Workspace) -> dict[str, Identity]:
    """Of the input, output and temp folder."""
    found = {type_: identify(workspace.folder(type_)) for type_ in get_args(FolderType)}
    return {type_: identity for type_, identity in found.items() if identity is not None}


def _read(path: Path) -> Identity | None:
    try:
        mark = _Mark.from_bytes(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return Identity(mark.id, bytes.fromhex(mark.key)) if mark.inode == path.stat().st_ino else None


def _make(path: Path) -> None:
    """Of several that make it at once, one wins."""
    path.parent.mkdir(exist_ok=True)
    new = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        new.touch()
        mark = _Mark(id=secrets.token_hex(8), key=secrets.token_hex(32), inode=new.stat().st_ino)
        new.write_bytes(mark.to_bytes())
        try:
            path.hardlink_to(new)
        except OSError:
            # Somebody was quicker, the mark that is there is another folder's, or there are no links here.
            if _read(path) is None:
                new.replace(path)
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
