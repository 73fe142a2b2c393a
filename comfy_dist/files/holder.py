"""What this participant gives to others: leave to fetch a file it has, and the file in pieces."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from comfy_dist.errors import ComfyDistError
from comfy_dist.files import names
from comfy_dist.files.digests import Digests
from comfy_dist.files.identity import Identity
from comfy_dist.files.names import Named
from comfy_dist.messages import Command, Grant, Piece
from comfy_dist.workspace import FolderType, PathRefused, Workspace, inside

#: Seconds a token opens its file after it was last used, and after it was given: nobody keeps it open for ever.
GRANTED_SECONDS = 600.0
LONGEST_SECONDS = 86_400.0
#: Tokens at a time; who asks for more loses the oldest.
GRANTED_AT_ONCE = 10_000
#: Bytes of a file that a message of the broker carries.
PIECE = 2**18


class Gone(ComfyDistError):
    """What a token opened is no longer there, or no longer what it was."""


@dataclass(slots=True)
class Held:
    """A file that somebody may fetch."""

    file: Named
    path: Path
    size: int
    changed_at: int
    granted_at: float
    used_at: float

    def check(self) -> None:
        """Blocking. Raises Gone."""
        try:
            stat = self.path.stat()
        except OSError as error:
            raise Gone(f"{self.file.name!r} cannot be read: {error.strerror}.") from None
        if (stat.st_size, stat.st_mtime_ns) != (self.size, self.changed_at):
            raise Gone(f"{self.file.name!r} has changed.")


class Holder:
    """Gives what is named by a name in the cluster; a frontend also what else lies in its folders.

    That is what its /view shows. A worker gives nothing but what its jobs have reported, for `retention` seconds.
    """

    def __init__(
        self,
        workspace: Workspace,
        identities: Mapping[str, Identity],
        *,
        everything: bool,
        retention: float | None = None,
    ) -> None:
        self.workspace = workspace
        self.identities = identities
        #: Of the file server; "" while there is none.
        self.address = ""
        self.digests = Digests()
        self._everything = everything
        self._retention = retention
        self._granted: dict[str, Held] = {}

    @property
    def folders(self) -> dict[str, str]:
        """The ids of its folders."""
        return {type_: identity.id for type_, identity in self.identities.items()}

    def find(self, file: Named, *, literally: bool = True) -> Path | None:
        """The file where it lies in our folders, under that name or the one it has there. Blocking."""
        folder = self.workspace.folder(file.type)
        if literally:
            try:
                path = inside(folder, file.name)
                if path.is_file():
                    return path
            except (PathRefused, OSError):
                return None
        return names.find(folder, self.identities.get(file.type), file)

    def opened(self, token: str) -> Held | None:
        """The file that a token opens."""
        held = self._granted.get(token)
        now = time.monotonic()
        if held is None or now - held.used_at > GRANTED_SECONDS or now - held.granted_at > LONGEST_SECONDS:
            self._granted.pop(token, None)
            return None
        held.used_at = now
        return held

    async def answer(self, command: Command) -> dict[str, Any] | None:
        """To `grant` and `read`; None where another is meant."""
        arguments = command.arguments
        if command.verb == "grant":
            held = await asyncio.to_thread(self._asked_for, arguments)
            return self._grant(held).model_dump(mode="json") if held is not None else None
        held = self.opened(str(arguments.get("token")))
        if held is None:
            return None
        piece = await self._piece(held, int(arguments.get("offset", 0)))
        return piece.model_dump(mode="json")

    def _asked_for(self, arguments: Mapping[str, Any]) -> Held | None:
        """Blocking."""
        type_, folder = str(arguments.get("type")), arguments.get("folder")
        if type_ not in get_args(FolderType) or folder not in (None, self.folders.get(type_)):
            return None
        file = Named(type_, str(arguments.get("name")))
        path = self.find(file, literally=self._everything)
        if path is None:
            return None
        stat = path.stat()
        if self._retention is not None and time.time() - stat.st_mtime > self._retention:
            return None
        now = time.monotonic()
        return Held(file, path, stat.st_size, stat.st_mtime_ns, granted_at=now, used_at=now)

    def _grant(self, held: Held) -> Grant:
        token = secrets.token_urlsafe(32)
        self._granted[token] = held
        if len(self._granted) > GRANTED_AT_ONCE:
            del self._granted[next(iter(self._granted))]
        return Grant(token=token, address=self.address, size=held.size, changed_at=held.changed_at)

    async def _piece(self, held: Held, offset: int) -> Piece:
        await asyncio.to_thread(held.check)
        content = await asyncio.to_thread(_read, held.path, offset)
        if offset + len(content) < held.size:
            return Piece(data=base64.b64encode(content).decode())
        digest = await self.digests.of(held.path)
        return Piece(data=base64.b64encode(content).decode(), sha256=digest)


def _read(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(PIECE)
