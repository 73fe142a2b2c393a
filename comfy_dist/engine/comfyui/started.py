"""A stock ComfyUI as a child process of the worker, with private folders for what it writes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml
from yarl import URL

from comfy_dist.engine.child import Child, describe_exit
from comfy_dist.engine.comfyui.address import Address
from comfy_dist.engine.comfyui.installation import (
    Installation,
    Options,
    PrivateFolders,
    command,
    extra_paths,
    unknown_flag,
)
from comfy_dist.engine.comfyui.publishing import LocalFiles, Source
from comfy_dist.engine.comfyui.server import Server
from comfy_dist.errors import ComfyDistError
from comfy_dist.workspace import Workspace

_log = logging.getLogger("comfy_dist.engine.comfyui")

_HELP_SECONDS = 60.0


class Started:
    """One ComfyUI at a time, started again by start() when it has ended."""

    #: Nobody else's prompts run in it, and none of an earlier process.
    private = True
    #: Its input folder is the workspace's.
    separate: tuple[str, ...] = ("output", "temp")
    #: A process that lives is not given up soon: how it ends, it tells itself.
    patience = 120.0

    def __init__(
        self,
        installation: Installation,
        workspace: Workspace,
        options: Options | None = None,
        *,
        start_seconds: float = 600.0,
    ) -> None:
        self.start_seconds = start_seconds
        self._installation = installation
        self._workspace = workspace
        self._options = options or Options()
        self._child: Child | None = None
        self._folders: PrivateFolders | None = None
        self._port: socket.socket | None = None
        self._link: Mapping[str, str] = {}

    @property
    def where(self) -> str:
        return f"ComfyUI in {self._installation.folder}"

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.alive else None

    def link(self, environment: Mapping[str, str]) -> bool:
        self._link = environment
        return True

    async def start(self, ended: Callable[[str], None]) -> Address:
        """Start the process; it answers later. `ended` is called with how it ended."""
        await self.kill()
        help = await self._help()
        if (flag := unknown_flag(self._options, help)) is not None:
            raise ComfyDistError(f"{self.where} does not know {flag}; leave it out, or use a ComfyUI that does.")
        self._folders = await asyncio.to_thread(self._make_folders)
        self._port, port = _reserve_port(self._options.port)
        child = self._child = await Child.spawn(
            command(self._installation, self._options, self._workspace, self._folders, port, help),
            environment=_environment() | self._options.environment() | dict(self._link),
            cwd=str(self._installation.folder),
            log=_log,
            on_frame=lambda header, body: None,
        )
        child.on_end(lambda code: ended(describe_exit(code)))
        return Address(URL.build(scheme="http", host="127.0.0.1", port=port))

    def source(self, server: Server) -> Source:
        assert self._folders is not None
        return LocalFiles(self._folders.output, self._folders.temp)

    async def kill(self) -> bool:
        """End it and what it started, at once; whether its end was brought about."""
        if self._child is not None:
            self._kill_group(self._child)
            self._child.kill()
            await self._child.ended()
        await self._tidy()
        return True

    async def close(self) -> None:
        if self._child is not None:
            await self._child.stop()
            self._kill_group(self._child)
        await self._tidy()

    @staticmethod
    def _kill_group(child: Child) -> None:
        if child.pid is not None and hasattr(os, "killpg"):
            # It makes its group itself, so there may be none yet, or none any more.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)

    async def _help(self) -> str:
        """What `main.py --help` says."""
        program = str(self._installation.folder / "main.py")
        try:
            process = await asyncio.create_subprocess_exec(
                str(self._installation.python),
                program,
                "--help",
                cwd=str(self._installation.folder),
                env=_environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise ComfyDistError(
                f"{self._installation.python} cannot be started: {error.strerror}; name another with "
                "--comfyui-python."
            ) from None
        try:
            out, err = await asyncio.wait_for(process.communicate(), _HELP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise ComfyDistError(f"{self.where} did not answer --help within {_HELP_SECONDS:g} s.") from None
        if process.returncode:
            last = err.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise ComfyDistError(
                f"{self.where} does not start with {self._installation.python}: {last.rstrip('.')}. "
                "Name its Python with --comfyui-python."
            )
        return out.decode("utf-8", "replace")

    def _make_folders(self) -> PrivateFolders:
        """Beside the workspace's own temporary files, so that to publish is to link."""
        try:
            self._workspace.temp.mkdir(parents=True, exist_ok=True)
            folders = PrivateFolders(Path(tempfile.mkdtemp(prefix="comfyui-", dir=self._workspace.temp)))
            folders.output.mkdir()
            folders.extra_paths.write_text(
                yaml.safe_dump(extra_paths(self._installation, self._workspace)), "utf-8"
            )
        except OSError as error:
            raise ComfyDistError(
                f"A private folder for ComfyUI cannot be made in {self._workspace.temp}: {error.strerror}."
            ) from None
        return folders

    async def _tidy(self) -> None:
        if self._port is not None:
            self._port.close()
            self._port = None
        if self._folders is not None:
            await asyncio.to_thread(shutil.rmtree, self._folders.root, ignore_errors=True)
            self._folders = None


def _reserve_port(wanted: int | None) -> tuple[socket.socket | None, int]:
    """A free port, or that one. On Linux nobody gets it by chance while the socket, which never listens, is open.

    Raises ComfyDistError where somebody listens there.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        reserved.bind(("127.0.0.1", wanted or 0))
    except OSError as error:
        reserved.close()
        raise ComfyDistError(f"Port {wanted} cannot be used ({error.strerror}); choose another.") from None
    port: int = reserved.getsockname()[1]
    if sys.platform == "linux":
        return reserved, port
    reserved.close()
    return None, port


def _environment() -> dict[str, str]:
    # Nodes are other people's code: settings, the broker's password among them, stay with the worker.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COMFYUI_")}
    return kept | {"PYTHONUNBUFFERED": "1"}
