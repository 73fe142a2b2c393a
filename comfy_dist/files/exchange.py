"""A process's part in the exchange of files: its folders, what it keeps of others', and its file server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from comfy_dist.files.address import Place
from comfy_dist.files.cache import Cache
from comfy_dist.files.holder import Holder
from comfy_dist.files.identity import identities
from comfy_dist.files.server import file_server
from comfy_dist.workspace import Workspace


class Exchange:
    """Shared by the frontend and the worker of a process. `cache_bytes`: how much of others' files is kept."""

    def __init__(
        self,
        workspace: Workspace,
        place: Place,
        cache: Path,
        *,
        cache_bytes: int,
        everything: bool,
        retention: float | None = None,
    ) -> None:
        self.holder = Holder(workspace, identities(workspace), everything=everything, retention=retention)
        self.cache = Cache(cache, cache_bytes)
        self._place = place

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Give files to others over HTTP; without this they are had through the broker alone."""
        async with file_server(self.holder, self._place):
            yield
