"""Machines that share nothing but a broker: folders of their own on one machine."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Process, module


class Machines:
    """Starts services that share a broker and nothing else; each works in a folder of its name."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder = folder
        self._uri = uri
        self._name = f"test-{uuid.uuid4().hex[:8]}"
        self.processes: list[Process] = []

    def common(self, uri: str) -> list[str]:
        """Arguments of them all; `uri` is the broker as that machine reaches it."""
        return ["--distributed-queue-connection-uri", uri, "--distributed-queue-name", self._name]

    def _start(self, command: str, name: str, *arguments: str) -> Process:
        place = () if "--cwd" in arguments else ("--cwd", str(self.folder / name))
        line = module(f"comfy_dist.cli.{command}", *self.common(self._uri), *place, *arguments)
        process = Process(line, cwd=self.folder)
        self.processes.append(process)
        return process

    def worker(self, name: str, *arguments: str) -> Process:
        """A worker, not awaited."""
        return self._start("worker", name, "--cpu", "--worker-name", name, "--health-port", "0", *arguments)

    def frontend(self, name: str, *arguments: str) -> Process:
        """A frontend, not awaited."""
        state = str(self.folder / f"state-{name}")
        only = ("--distributed-queue-frontend", "--port", "0", "--state-directory", state)
        return self._start("comfyui", name, *only, *arguments)

    def cached(self, frontend: str) -> list[Path]:
        """What a frontend keeps of others' files."""
        folder = self.folder / f"state-{frontend}" / "files"
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.stop()


@pytest.fixture(scope="module")
def machines(amqp_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    machines = Machines(tmp_path_factory.mktemp("machines"), amqp_uri)
    yield machines
    machines.stop()
