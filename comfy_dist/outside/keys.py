"""Keys for ComfyUIs elsewhere that want one: whoever starts the worker gives them, no workflow does.

They are read from a file each time, and are nowhere else: not in a prompt, an error, an environment or a log.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from yarl import URL

from comfy_dist.errors import UsageError
from comfy_dist.outside.errors import shown

#: Names the file to an engine's process, and to a stock ComfyUI that somebody starts.
VARIABLE = "COMFYUI_REMOTE_KEYS"
#: Scheme, host and port.
Place: TypeAlias = tuple[str, str | None, int | None]
_LINE = "ADDRESS KEY, such as https://gpu.example.org 0123…"


def environment(file: Path | None) -> dict[str, str]:
    """What tells another process; nothing where there is none. Raises UsageError for a file that is none."""
    if file is None:
        return {}
    place = file.expanduser().absolute()
    read(place)
    return {VARIABLE: str(place)}


def key_for(url: str) -> str | None:
    """The key for who answers there: the same scheme, host and port. None: there is none. Raises UsageError.

    Nor is there one for an address that has a user of its own.
    """
    if not (file := os.environ.get(VARIABLE)):
        return None
    address = URL(url)
    return None if address.user or address.password else read(Path(file)).get(_place(address))


def read(file: Path) -> dict[Place, str]:
    """The keys in the file by who they are for; # begins a remark. Raises UsageError, without a key."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"The file of keys for remotes, {file}, cannot be read ({why}).") from None
    found = {}
    for number, line in enumerate(lines, 1):
        if (words := line.split()) and not words[0].startswith("#"):
            found[_named(words, f"Line {number} of {file}")] = words[-1]
    return found


def _place(url: URL) -> Place:
    return url.scheme, url.host, url.port


def _named(words: list[str], line: str) -> Place:
    match words:
        case [address, key] if key.isascii():
            with suppress(ValueError):
                url = URL(address)
                if url.scheme in ("http", "https") and url == url.origin() / "":
                    return _place(url)
            raise UsageError(f"{line}: {shown(address)!r} is no address such as https://gpu.example.org:8188.")
    raise UsageError(f"{line} is not {_LINE}.")
