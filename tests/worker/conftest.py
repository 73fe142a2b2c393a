"""Whole `comfyui` processes that tests start, stop, kill and start again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.patience import PATIENCE
from tests.support.processes import REPOSITORY, Process, module


@dataclass(frozen=True)
class Service:
    """A `comfyui` that is up."""

    process: Process
    address: str

    def kill(self) -> None:
        """End it, and nothing but it, without a word; wait until it is gone."""
        self.process.process.kill()
        self.process.process.wait(PATIENCE)

    def stop(self) -> int:
        return self.process.stop()

    @property
    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.process.pid).children(recursive=True)


Start = Callable[..., Service]


def comfyui(folder: Path, *arguments: str) -> list[str]:
    device = () if "--devices" in arguments else ("--cpu",)
    return module("comfy_dist.cli.comfyui", "--cwd", str(folder), "--port", "0", *device, *arguments)


def make_workspace(folder: Path) -> Path:
    shutil.copytree(REPOSITORY / "tests/packs/testing_nodes", folder / "custom_nodes/testing_nodes")
    return folder


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """Starts a `comfyui` on a workspace; what is left of it at the end of the module is stopped."""
    with ExitStack() as stack:

        def go(folder: Path, *arguments: str) -> Service:
            process = Process(comfyui(folder, *arguments), cwd=folder)
            stack.callback(process.stop)
            return Service(process, process.wait_for(r"ComfyUI is at (\S+)")[1])

        yield go


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return make_workspace(tmp_path)
