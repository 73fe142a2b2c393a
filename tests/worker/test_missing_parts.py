"""Without torch this machine can be a frontend."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from comfy_dist.cli.parts import make_worker
from comfy_dist.errors import MissingDependency
from comfy_dist.settings import ComfyuiSettings
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.workspace import Workspace


async def test_a_worker_without_torch_says_which_extra_brings_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "torch" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(MissingDependency, match=r"needs torch: pip install 'comfy_dist\[worker\]'") as missing:
        make_worker(ComfyuiSettings(), Workspace.at(tmp_path), MemoryTransport(MemoryBroker()))
    assert missing.value.exit_code == 2
