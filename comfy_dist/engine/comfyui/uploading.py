"""Files of the workspace that a prompt reads and its ComfyUI lacks, uploaded by its API."""

from __future__ import annotations

import asyncio
import copy
import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from comfy_dist.engine.comfyui.server import FileReference, Server
from comfy_dist.files.inputs import file_inputs
from comfy_dist.messages import Prompt
from comfy_dist.workspace import PathRefused, Workspace, inside, split_annotation

#: Files that are known to be there; older ones are uploaded again.
REMEMBERED = 10_000

#: A file as it was: path, size, time of change in ns.
_Stamp = tuple[Path, int, int]


class Uploader:
    """Uploads each content under each name once. `types`: whose folders the ComfyUI does not share with us."""

    def __init__(self, workspace: Workspace, server: Server, types: Collection[str]) -> None:
        self._workspace = workspace
        self._server = server
        self._types = types
        self._digests: dict[_Stamp, str] = {}
        self._uploaded: dict[tuple[FileReference, str], FileReference] = {}

    def forget(self) -> bool:
        """Upload all anew, for someone may have deleted there what we uploaded; whether there is any."""
        known = bool(self._uploaded)
        self._uploaded.clear()
        return known

    async def prepare(self, prompt: Prompt, nodes: Mapping[str, Mapping[str, Any]]) -> Prompt:
        """The prompt as its ComfyUI can run it: files uploaded, and named as it named them.

        Raises ServerFault, and OSError where a file of the workspace cannot be read.
        """
        prepared = prompt
        for node_id, name, value in file_inputs(prompt, nodes):
            plain, type_ = split_annotation(value)
            path = self._file(plain, type_)
            if path is None:
                continue
            folder, _, base = plain.replace("\\", "/").rpartition("/")
            wanted = FileReference(type_, folder, base)
            there = await self._upload(path, wanted)
            if there != wanted:
                if prepared is prompt:
                    prepared = copy.deepcopy(prompt)
                prepared[node_id]["inputs"][name] = f"{there.subfolder}/{there.name}".lstrip("/") + (
                    f" [{there.type}]" if there.type != "input" or plain != value else ""
                )
        return prepared

    def _file(self, name: str, type_: str) -> Path | None:
        """The file of the workspace that an input names; what is none, ComfyUI may have itself."""
        if type_ not in self._types or not name:
            return None
        try:
            path = inside(self._workspace.folder(type_), name)
            return path if path.is_file() else None
        except (PathRefused, OSError):
            return None

    async def _upload(self, path: Path, wanted: FileReference) -> FileReference:
        stat = await asyncio.to_thread(path.stat)
        stamp = (path, stat.st_size, stat.st_mtime_ns)
        digest = self._digests.get(stamp)
        if digest is None:
            digest = self._digests[stamp] = await asyncio.to_thread(_digest, path)
            _forget_oldest(self._digests)
        known = self._uploaded.get((wanted, digest))
        if known is None:
            file = await asyncio.to_thread(path.open, "rb")
            try:
                known = await self._server.upload(file, wanted)
            finally:
                await asyncio.to_thread(file.close)
            self._uploaded[wanted, digest] = known
            _forget_oldest(self._uploaded)
        return known


def _forget_oldest(known: dict[Any, Any]) -> None:
    if len(known) > REMEMBERED:
        del known[next(iter(known))]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
