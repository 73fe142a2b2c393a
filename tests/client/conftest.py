"""A running all-in-one, and the client, called here or as a process."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from comfy_dist.cli.client import main
from tests.support.commands import called
from tests.support.patience import PATIENCE
from tests.support.processes import REPOSITORY, all_in_one, finished, module

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    for pack in ("testing_nodes", "widget_nodes"):
        shutil.copytree(REPOSITORY / "tests/packs" / pack, folder / "custom_nodes" / pack)
    return folder


@pytest.fixture(scope="session")
def server(workspace: Path) -> Iterator[str]:
    """The address of a running `comfyui` whose worker has the testing nodes."""
    with all_in_one(workspace) as address:
        yield address


@pytest.fixture(scope="session")
def object_info(server: str) -> dict[str, Any]:
    return fetch(f"{server}/object_info")


def fetch(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=PATIENCE) as answer:
        text = answer.read()
    return json.loads(text) if text else None


@pytest.fixture
def client(server: str, tmp_path: Path) -> Run:
    """Calls comfyui-client to its end in an empty folder."""

    def run(*arguments: str, address: str = server) -> subprocess.CompletedProcess[str]:
        return called(main, "--server", address, *arguments, cwd=tmp_path)

    return run


@pytest.fixture
def client_process(server: str, tmp_path: Path) -> Run:
    """The same as the process that people start: each of its commands is, once."""

    def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return finished(client_command(server, *arguments), cwd=tmp_path, **options)

    return run


def client_command(server: str, *arguments: str) -> list[str]:
    return module("comfy_dist.cli.client", "--server", server, *arguments)


def picture(color: int, seconds: float = 0.0, prefix: str = "test") -> dict[str, Any]:
    """A prompt that saves a picture of one colour after a while."""
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": color}},
        "2": {
            "class_type": "TestSleep",
            "inputs": {"seconds": seconds, "steps": 100, "value": ["1", 0]},
            "_meta": {"title": "Slow one"},
        },
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": prefix}},
    }


def write(path: Path, workflow: Any) -> str:
    path.write_text(json.dumps(workflow))
    return str(path)
