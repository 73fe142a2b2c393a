"""A ComfyUI that already runs somewhere, driven by its address."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from comfy_dist.engine.comfyui.address import Address
from comfy_dist.engine.comfyui.publishing import RemoteFiles, Source
from comfy_dist.engine.comfyui.server import Server

_log = logging.getLogger(__name__)


class Attached:
    """`start_seconds`: how long its first answer is awaited; `patience`: how long it may be out of reach."""

    #: Whose prompts it knows: ours and others'.
    private = False
    #: Folders that it does not share with the workspace.
    separate: tuple[str, ...] = ("input", "output", "temp")

    def __init__(self, address: Address, *, start_seconds: float = 30.0, patience: float = 30.0) -> None:
        self.address = address
        self.start_seconds = start_seconds
        self.patience = patience
        self._warned = False

    @property
    def where(self) -> str:
        return f"ComfyUI at {self.address}"

    async def start(self, ended: Callable[[str], None]) -> Address:
        if not self._warned:
            self.address.warn_if_readable()
            self._warned = True
        return self.address

    def source(self, server: Server) -> Source:
        return RemoteFiles(server)

    def link(self, environment: Mapping[str, str]) -> bool:
        """It was started without."""
        return False

    async def kill(self) -> bool:
        """Whether its end was brought about: it is not ours to end."""
        return False

    async def close(self) -> None:
        """Nothing is held."""
        await asyncio.sleep(0)
