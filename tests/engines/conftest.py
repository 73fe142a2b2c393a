"""Engines comfyui over stand-ins: our all-in-one over real HTTP, attached and as a child. With COMFYUI_DIR set
(and COMFYUI_PYTHON, where it has no .venv), the same over the ComfyUI there.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from comfy_dist.engine.comfyui import Address, Attached, ComfyuiEngine, Installation, Options, Started
from comfy_dist.workspace import Workspace
from tests.engines.running import Subject
from tests.support.processes import REPOSITORY, all_in_one, running
from tests.support.rabbitmq import free_port

STAND_IN = Path(__file__).parent / "stand_in"
#: Another, of which only the process counts.
LIGHT = Path(__file__).parent / "light"
#: What names the stock ComfyUI, as it is while tests are collected: no test finds it in its environment.
STOCK = {name: os.environ[name] for name in ("COMFYUI_DIR", "COMFYUI_PYTHON") if os.environ.get(name)}
COMFYUI_DIR = STOCK.get("COMFYUI_DIR")
KINDS = ["attached", "child", *(["attached-stock", "child-stock"] if COMFYUI_DIR else [])]


def make_workspace(folder: Path) -> Workspace:
    workspace = Workspace.at(folder)
    workspace.create()
    pack = workspace.custom_nodes / "testing_nodes"
    shutil.copytree(REPOSITORY / "tests/packs/testing_nodes", pack, dirs_exist_ok=True)
    web = workspace.custom_nodes / "web_nodes"
    (web / "js").mkdir(parents=True, exist_ok=True)
    (web / "__init__.py").write_text('NODE_CLASS_MAPPINGS = {}\nWEB_DIRECTORY = "./js"\n')
    return workspace


def installation(*arguments: str) -> Installation:
    """The stand-in's."""
    return Installation.at(STAND_IN, Path(sys.executable), arguments)


def stock_installation() -> Installation:
    assert COMFYUI_DIR is not None
    python = Path(STOCK["COMFYUI_PYTHON"]) if "COMFYUI_PYTHON" in STOCK else None
    return Installation.at(Path(COMFYUI_DIR), python, ("--disable-api-nodes",))


@contextmanager
def stock(folder: Path) -> Iterator[str]:
    """A ComfyUI started as its users do, with `folder` as its base directory; its address."""
    make_workspace(folder)
    found, port = stock_installation(), free_port()
    command = [str(found.python), "main.py", "--cpu", "--disable-api-nodes", "--port", str(port)]
    command += ["--base-directory", str(folder), "--disable-auto-launch"]
    with running(command, cwd=found.folder) as process:
        process.wait_for("To see the GUI go to")
        yield f"http://127.0.0.1:{port}"


@contextmanager
def stand_in(folder: Path) -> Iterator[str]:
    make_workspace(folder)
    with all_in_one(folder) as address:
        yield address


@dataclass(frozen=True)
class Theirs:
    """A running ComfyUI and its folder."""

    address: str
    folder: Path


@pytest.fixture(scope="session")
def running_comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Theirs]]:
    """Starts one of a kind, "stock" or not, when it is first asked for."""
    with ExitStack() as stack:

        @functools.cache
        def start(stocks: bool) -> Theirs:
            folder = tmp_path_factory.mktemp("theirs")
            return Theirs(stack.enter_context(stock(folder) if stocks else stand_in(folder)), folder)

        yield lambda kind: start(kind.endswith("stock"))


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=KINDS)
async def shared_subject(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    running_comfyui: Callable[[str], Theirs],
) -> AsyncIterator[Subject]:
    kind: str = request.param
    workspace = make_workspace(tmp_path_factory.mktemp(kind))
    if kind.startswith("child"):
        found = stock_installation() if kind.endswith("stock") else installation()
        subject = Subject(
            kind, ComfyuiEngine(workspace, Started(found, workspace, Options(device="cpu"))), workspace
        )
    else:
        theirs = running_comfyui(kind)
        engine = ComfyuiEngine(workspace, Attached(Address.parse(theirs.address)))
        subject = Subject(kind, engine, workspace, address=theirs.address, theirs=theirs.folder)
    try:
        await subject.engine.start()
        yield subject
    finally:
        await subject.engine.close()


@pytest_asyncio.fixture(loop_scope="session")
async def subject(shared_subject: Subject) -> Subject:
    """One ComfyUI for all tests of a kind, started again where the last one ended it."""
    await shared_subject.engine.start()
    return shared_subject
