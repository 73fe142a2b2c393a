"""Which workers this machine is to have: the file in the workspace, edited by hand and over HTTP."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from comfy_dist.errors import ComfyDistError

#: Relative to the user folder; no user's folder has this name, so no request reads or writes it.
FILE = Path("comfy_dist", "local_workers.json")
#: Names an entry may have: those of --worker-name.
NAME = r"^[A-Za-z0-9_.-]{1,40}$"
#: `cpu`, or a GPU's number.
DEVICE = r"^(cpu|\d{1,4})$"
MOST = 64

# A zero byte ends a program's argument.
_Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=10_000)]
_Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]


class EntriesUnusable(ComfyDistError):
    """The file cannot be read, written or understood."""


class Entry(BaseModel):
    """One worker of this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, hide_input_in_errors=True)

    #: Stays with it for life; its log is named by it.
    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")
    name: str = Field(pattern=NAME)
    device: str = Field(pattern=DEVICE)
    #: More arguments for comfyui-worker. Only who may write the file may set these two: they can start programs.
    arguments: tuple[_Text, ...] = ()
    environment: dict[_Variable, _Text] = {}
    #: Whether it is started with the frontend.
    enabled: bool = True


class Entries(BaseModel):
    """The file's content."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    workers: tuple[Entry, ...] = Field((), max_length=MOST)

    @model_validator(mode="after")
    def _no_two_alike(self) -> Self:
        for what in ("id", "name"):
            values = [getattr(entry, what) for entry in self.workers]
            if twice := {value for value in values if values.count(value) > 1}:
                raise ValueError(f"two workers have the {what} {min(twice)}")
        return self

    def find(self, id_: str) -> Entry | None:
        return next((entry for entry in self.workers if entry.id == id_), None)

    def having(self, entry: Entry) -> Entries:
        """With this one, in the place of that with its id."""
        if self.find(entry.id) is None:
            return Entries(workers=(*self.workers, entry))
        return Entries(workers=tuple(entry if each.id == entry.id else each for each in self.workers))

    def lacking(self, id_: str) -> Entries:
        return Entries(workers=tuple(entry for entry in self.workers if entry.id != id_))


def read(path: Path) -> Entries | None:
    """What the file says; None where there is none. Raises EntriesUnusable with what is wrong with it."""
    try:
        return Entries.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EntriesUnusable(
            f"{path}, which says what workers to start, cannot be read: {error.strerror}."
        ) from None
    except ValidationError as error:
        raise EntriesUnusable(f"{path}, which says what workers to start, {_wrong(error)}.") from None


def _wrong(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return f"is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}"
    message = first["msg"].removeprefix("Value error, ")
    return f"has a mistake at {_place(first['loc']) or 'its top'}: {message[:1].lower()}{message[1:]}"


def _place(loc: Iterable[int | str]) -> str:
    """As `workers[0].device`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc).removeprefix(".")


def write(path: Path, entries: Entries) -> None:
    """At once and for this user alone: who reads it never sees half of it. Raises EntriesUnusable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp lets nobody else read it: environments hold tokens.
        descriptor, part = tempfile.mkstemp(prefix=".local_workers-", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(entries.model_dump_json(indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            Path(part).replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(part).unlink()
            raise
    except OSError as error:
        raise EntriesUnusable(
            f"{path}, which says what workers to start, cannot be written: {error.strerror}."
        ) from None
