"""Imports go one way (docs/architecture.md), and what a process does not need it does not load."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "comfy_dist"
#: From the bottom; a part imports from those below its line, and from itself.
LAYERS = (
    {
        "errors",
        "input_judging",
        "masking",
        "memory",
        "messages",
        "picture_formats",
        "routing",
        "settings",
        "validation",
        "workspace",
    },
    {"claims", "ledger", "outside", "pauses", "registry", "transport", "workflows"},
    {"files", "tensors"},
    {"calls"},
    {"nodes"},
    {"pack"},
    {"custom_nodes", "engine"},
    {"local_workers"},
    {"client", "frontend", "worker"},
    {"cli"},
)
#: Within one line, and no others.
BESIDE = {
    ("routing", "input_judging"),
    ("routing", "messages"),
    ("settings", "errors"),
    ("validation", "errors"),
    ("validation", "input_judging"),
    ("validation", "messages"),
    ("workspace", "errors"),
    ("workspace", "messages"),
    ("ledger", "transport"),
}
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
#: What a stock ComfyUI's environment has, where our nodes load too.
NODES_MAY_IMPORT = {"PIL", "aiohttp", "comfy_dist", "numpy", "pydantic", "pydantic_core", "torch", "yaml", "yarl"}
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(module: str) -> str | None:
    """The part of ours a module belongs to, None for comfy_dist itself (its version) and others' modules."""
    names = module.split(".")
    return names[1] if names[0] == "comfy_dist" and len(names) > 1 and names[1] != "__version__" else None


def imported(path: Path) -> Iterator[str]:
    """Every module the file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = node.module or ""
            yield from ([f"{module}.{alias.name}" for alias in node.names] if module == "comfy_dist" else [module])


def test_every_part_has_its_layer() -> None:
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES} - {"__init__"}
    assert parts <= RANK.keys(), "give the new part its place in LAYERS, and in docs/architecture.md"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_part_imports_only_from_below(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for module in imported(path):
        other = part_of(module)
        if other is not None and other != own:
            assert RANK[other] < RANK[own] or (own, other) in BESIDE, f"{own} must not import {module}"


def test_nodes_import_what_a_stock_comfyui_has() -> None:
    allowed = NODES_MAY_IMPORT | sys.stdlib_module_names
    there = [
        path
        for part in ("outside", "tensors", "calls", "nodes", "pack")
        for path in (PACKAGE / part).rglob("*.py")
    ]
    found = {module.split(".")[0] for path in there for module in imported(path)}
    assert found <= allowed


def test_messages_never_pickle() -> None:
    found = {module for path in FILES for module in imported(path)}
    assert not found & {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}


def loaded_by(code: str) -> set[str]:
    """The top-level modules in a fresh Python after `code`."""
    report = "\nimport json, sys\nprint('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_frontend_needs_neither_torch_nor_numpy_nor_pillow() -> None:
    loaded = loaded_by("import comfy_dist.frontend.service, comfy_dist.cli.parts, comfy_dist.transport.amqp")
    assert "aiohttp" in loaded
    assert not loaded & {"torch", "numpy", "PIL"}
    assert not loaded & {"jwt", "cryptography"}, "only a frontend with keys needs them"


def test_an_engines_nodes_load_no_client_before_they_ask() -> None:
    """It would be a tenth of the engine's start."""
    loaded = loaded_by("import comfy_dist.nodes.families")
    assert "torch" in loaded
    assert not loaded & {"aiohttp", "yarl"}


@pytest.mark.parametrize("command", ["comfyui", "worker"])
def test_help_loads_no_server(command: str) -> None:
    loaded = loaded_by(
        f"from comfy_dist.cli.{command} import main\ntry:\n    main(['--help'])\nexcept SystemExit as end:\n"
        "    assert not end.code"
    )
    assert not loaded & {"aiohttp", "aio_pika", "torch", "numpy", "PIL", "sqlite3"}
