"""Where a prompt is to be executed, as `remote_url` says it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from comfy_dist.errors import ComfyDistError
from comfy_dist.outside.errors import OutsideRefused, shown
from comfy_dist.outside.fetching import check_web_address

_WORKER = "worker://"
_ANY = "any"
#: Letters; no worker's name has more.
_LONGEST = 200


class UnknownRemote(ComfyDistError):
    """A remote_url that names nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """A ComfyUI by its address, a worker of this cluster by its name, or, without both, any that is free."""

    url: str | None = None
    worker: str | None = None

    def __str__(self) -> str:
        if self.url is not None:
            return shown(self.url)
        return "any worker" if self.worker is None else f"worker {self.worker}"


def place_of(remote_url: str) -> Place:
    """Of several, by spaces or commas, the first counts, as it always did. Raises UnknownRemote."""
    found = remote_url.strip()
    if found.lower().startswith(_WORKER):
        # Workers' names may have spaces, and no colon: that is how calls for processes beside workers begin.
        name = unquote(found[len(_WORKER) :].strip("/"))
        if not name or ":" in name or len(name) > _LONGEST:
            raise UnknownRemote(f"{found[:100]!r} names no worker; write {_WORKER}NAME, or {_ANY}.")
        return Place() if name == _ANY else Place(worker=name)
    found = next(iter(found.replace(",", " ").split()), "")
    if found.lower() == _ANY:
        return Place()
    try:
        check_web_address(found)
    except OutsideRefused:
        raise UnknownRemote(
            f"{shown(found)!r} is no remote: write the address of a ComfyUI, http://HOST:PORT/, {_WORKER}NAME for "
            f"a worker of this cluster, or {_ANY}."
        ) from None
    return Place(url=found)
