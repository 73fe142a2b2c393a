"""Legion workflows executed by a stock ComfyUI of their own, called from engine graph and from a stock ComfyUI.

With COMFYUI_DIR set."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
import yaml

from comfy_dist.cli.legion import make_legion_engine
from comfy_dist.engine import Engine
from comfy_dist.engine.comfyui import ComfyuiEngine, Options, Started
from comfy_dist.settings import ComfyuiWorkerSettings
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.workspace import Workspace
from tests.distributed.conftest import Workers, graph_engine, working
from tests.distributed.legion_graphs import commanded, images, joined, save, scaled, worker_workflow
from tests.engines.conftest import COMFYUI_DIR, stock_installation
from tests.support.rabbitmq import free_port
from tests.support.talking import Prompt, node

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _stock(workspace: Workspace, _: int) -> Engine:
    return ComfyuiEngine(workspace, Started(stock_installation(), workspace, Options(device="cpu")))


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["graph", "comfyui"])
async def one(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    """Its own engine is of that kind."""
    broker = MemoryBroker()
    folder = tmp_path_factory.mktemp("one")
    assert COMFYUI_DIR is not None
    if request.param == "graph":
        settings = ComfyuiWorkerSettings(cpu=True, allow_comfyui_dir=(COMFYUI_DIR,))
    else:
        settings = ComfyuiWorkerSettings(cpu=True, comfyui_dir=Path(COMFYUI_DIR))
    make = make_legion_engine(settings, Workspace.at(folder / "workspace"), "cpu")
    engine = graph_engine if request.param == "graph" else _stock
    async with working(folder, 1, lambda: MemoryTransport(broker), engine, legion_engine=make) as workers:
        yield workers


def config(workflow: str, port: Any, **execution: Any) -> str:
    comfyui = {"port": port, "paths": {"comfyui_path": COMFYUI_DIR}}
    return yaml.safe_dump({"comfyui": comfyui, "execution": execution, "workflow": workflow})


def calling(text: str) -> Prompt:
    prompt = images() | commanded(text, input_1=["images", 0]) | joined("master")
    prompt["process"] = node("PreviewAny", source=["join", 1])
    prompt["inverted"] = node("ImageInvert", image=["images", 0])
    links = {"given back": ["join", 0], "expected": ["inverted", 0]}
    return prompt | {name: node("DistDigest", value=link) for name, link in links.items()}


async def test_a_stock_comfyui_of_its_own_executes_it_on_its_port(one: Workers) -> None:
    made = {
        "inverted": node("ImageInvert", image=["in", 0]),
        # Of ComfyUI's own nodes.
        "made": node("ImageAddNoise", image=["inverted", 0], seed=1, strength=0.0),
        "process": node("DistProcess", names="COMFYUI_LEGION_TEST"),
    }
    name = save(one, "stock.json", worker_workflow(made, input_1=["inverted", 0], input_2=["process", 0]))
    port = free_port()
    variables = {"COMFYUI_LEGION_TEST": "there"}
    text = config(name, port, env_vars=variables, extra_args="--preview-method none", asynch=True)
    ran = await one.done(calling(text))
    assert ran.digests["given back"] == ran.digests["expected"]
    pid, variable = json.loads(ran.outputs["process"]["text"][0])
    assert variable == "there"
    listening = [each.laddr.port for each in psutil.Process(pid).net_connections() if each.status == "LISTEN"]
    assert port in listening


async def test_a_port_in_use_is_told(one: Workers) -> None:
    name = save(one, "stock.json", worker_workflow(input_1=["in", 0]))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = await one.run(calling(config(name, port)))
    assert ran.status == "error"
    assert f"Port {port} cannot be used" in ran.error["exception_message"]


async def test_joins_of_a_campaign_that_is_executed_in_place_share_it(one: Workers, tmp_path: Path) -> None:
    """Nobody else is there: two joins, of which the first expands into the workflow."""
    name = save(one, "shared.json", scaled(log=tmp_path / "log"))
    text = yaml.safe_dump({"comfyui": {"type": "cluster"}, "execution": {"asynch": True}, "workflow": name})
    prompt = images() | commanded(text, input_1=["images", 0]) | joined("master")
    prompt["again"] = node("LegionJoin", legion_campaign=["master", 0])
    prompt["expected"] = node("DistScale", value=["images", 0], by=2.0, add=0.5)
    prompt |= {f"={id_}": node("DistDigest", value=[id_, 0]) for id_ in ("join", "again", "expected")}
    ran = await one.done(prompt)
    assert ran.digests["=join"] == ran.digests["=again"] == ran.digests["=expected"]
    assert len((tmp_path / "log").read_text().splitlines()) == 1
