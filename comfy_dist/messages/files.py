"""Files as participants speak of them to each other (docs/files.md)."""

from __future__ import annotations

from pydantic import Field

from comfy_dist.messages.base import Message


class InputFile(Message):
    """A file that a prompt names, as the frontend that took the prompt has it."""

    #: Whose folder: input, output or temp.
    type: str
    #: Below that folder, with slashes.
    name: str
    #: Bytes.
    size: int = Field(ge=0)
    #: Where the prompt names it: (node id, input).
    inputs: tuple[tuple[str, str], ...] = ()
    #: Of its content, in hex.
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Grant(Message):
    """Leave to fetch one file as it is now, from whoever answered."""

    #: Opens this file for a while, at `address` and through the broker.
    token: str
    #: http://host:port of the holder's file server; "" where it has none.
    address: str = ""
    #: Bytes.
    size: int = Field(ge=0)
    #: Nanoseconds since the epoch.
    changed_at: int


class Piece(Message):
    """What the broker carries of a file at a time."""

    #: Base64.
    data: str
    #: Of the whole file, in hex, with its last piece.
    sha256: str = ""
