"""A ComfyUI behind a worker behind a frontend, as its users see it."""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from comfy_dist.engine.comfyui import Address, Attached, ComfyuiEngine, Installation, Options, Started
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.workspace import Workspace
from tests.engines.conftest import COMFYUI_DIR, LIGHT, Theirs, make_workspace, stock_installation
from tests.engines.running import gated, loaded, node, picture, waiting
from tests.engines.sick import NONSENSE, SickComfyUI, status
from tests.support.comfy_client import ComfyClient
from tests.support.in_process import Cluster, in_process
from tests.support.processes import Process, module, running
from tests.support.talking import Frontend

KINDS = ["attached", *(["attached-stock", "child-stock"] if COMFYUI_DIR else [])]


@dataclass
class Service:
    """A `comfyui`, and its workspace's folder."""

    address: str
    folder: Path
    process: Process


@contextmanager
def comfyui(folder: Path, *flags: str) -> Iterator[Service]:
    command = module("comfy_dist.cli.comfyui", "--cwd", str(folder), "--port", "0")
    with running([*command, "--state-directory", str(folder / "state"), *flags], cwd=folder) as process:
        yield Service(process.wait_for(r"ComfyUI is at (\S+)")[1], folder, process)


@pytest.fixture(scope="module", params=KINDS)
def service(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    running_comfyui: Callable[[str], Theirs],
) -> Iterator[Service]:
    ours = tmp_path_factory.mktemp("ours")
    make_workspace(ours)
    if request.param == "child-stock":
        found = stock_installation()
        flags = ["--comfyui-dir", str(found.folder), "--comfyui-python", str(found.python), "--cpu"]
        flags += ["--", *found.arguments]
    else:
        flags = ["--engine", running_comfyui(request.param).address]
    with comfyui(ours, *flags) as service:
        yield service


@pytest.fixture
async def client(service: Service) -> AsyncIterator[ComfyClient]:
    async with aiohttp.ClientSession() as session, ComfyClient(session, service.address) as client:
        yield client


async def viewed(client: ComfyClient, file: dict[str, str]) -> tuple[int, ...]:
    """The colour of a picture, from the frontend."""
    query = {"filename": file["filename"], "subfolder": file["subfolder"], "type": file["type"]}
    async with client.session.get(f"{client.address}/view", params=query) as response:
        assert response.status == 200
        with Image.open(io.BytesIO(await response.read())) as image:
            pixel = image.convert("RGB").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel


async def test_a_picture_comes_from_the_frontends_own_workspace(service: Service, client: ComfyClient) -> None:
    prompt_id = await client.post(picture(0x102030, "made/there", **{"3": node("PreviewImage", images=["1", 0])}))
    names = await client.ended(prompt_id)
    assert names[0] == "execution_start"
    assert names[-2:] == ["execution_success", "executing"]
    outputs = (await client.in_history(prompt_id))["outputs"]
    saved, shown = outputs["2"]["images"][0], outputs["3"]["images"][0]
    assert (service.folder / "output/made" / saved["filename"]).is_file()
    assert (service.folder / "temp" / shown["filename"]).is_file()
    for file in (saved, shown):
        assert await viewed(client, file) == (0x10, 0x20, 0x30)
    executed = {m["data"]["node"]: m["data"]["output"] for m in client.messages if m["type"] == "executed"}
    assert executed == outputs


async def test_an_uploaded_picture_is_read_there(client: ComfyClient) -> None:
    content = io.BytesIO()
    Image.new("RGB", (4, 4), (9, 8, 7)).save(content, "PNG")
    form = aiohttp.FormData()
    form.add_field("image", content.getvalue(), filename="uploaded.png")
    async with client.session.post(f"{client.address}/upload/image", data=form) as response:
        name = (await response.json())["name"]
    prompt_id = await client.post(loaded(name, "uploads"))
    outputs = (await client.in_history(prompt_id))["outputs"]
    assert await viewed(client, outputs["2"]["images"][0]) == (9, 8, 7)


async def test_a_failing_nodes_error_is_its_clients(client: ComfyClient) -> None:
    prompt = {
        "1": node("TestConcat", a="x", b=uuid.uuid4().hex),
        "2": node("TestFail", message="no such thing", value=["1", 0]),
        "3": node("TestSink", value=["2", 0]),
    }
    prompt_id = await client.post(prompt)
    assert (await client.ended(prompt_id))[-2:] == ["execution_error", "executing"]
    name, error = (await client.in_history(prompt_id))["status"]["messages"][-1]
    assert name == "execution_error"
    assert (error["node_id"], error["node_type"]) == ("2", "TestFail")
    assert error["exception_message"].strip() == "no such thing"


async def test_a_refused_prompt_has_its_reasons(client: ComfyClient) -> None:
    body: dict[str, Any] = {"prompt": {"1": node("SaveImage", filename_prefix="x")}}
    async with client.session.post(f"{client.address}/prompt", json=body) as response:
        assert response.status == 400
        errors = (await response.json())["node_errors"]["1"]["errors"]
    assert [error["type"] for error in errors] == ["required_input_missing"]


async def test_an_interrupt_in_the_middle_is_there_at_once(client: ComfyClient) -> None:
    prompt_id = await client.post(waiting(60, 600))
    await client.seen(lambda m: m["type"] == "progress" and m["data"]["prompt_id"] == prompt_id)
    await client.ask("POST", "/interrupt", {"prompt_id": prompt_id})
    assert (await client.ended(prompt_id))[-2:] == ["execution_interrupted", "executing"]
    again = await client.post(picture(2))
    assert (await client.in_history(again))["status"]["completed"]


async def test_the_workers_engine_and_version_are_shown(client: ComfyClient) -> None:
    (worker,) = (await client.ask("GET", "/distributed/workers"))["workers"]
    assert worker["engine"] == "comfyui"
    assert worker["engine_version"]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Of a frontend and a worker in this process."""
    broker = MemoryBroker()
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        yield cluster


async def in_front_of(cluster: Cluster, engine: ComfyuiEngine, known: str) -> Frontend:
    """The frontend before a worker with that engine, once this node is known."""
    comfy, _ = await cluster.frontend("f")
    await cluster.worker("w", engine=lambda *_: engine)
    await comfy.wait(lambda nodes: known in nodes, "/object_info")
    return comfy


async def test_a_sick_comfyui_costs_a_prompt_its_attempts_and_the_next_one_runs(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with SickComfyUI().running() as sick:
        workspace = Workspace.at(tmp_path / "worker-w")
        engine = ComfyuiEngine(workspace, Attached(Address.parse(sick.address)))
        comfy = await in_front_of(cluster, engine, "SaveImage")
        sick.answers["POST /prompt"] = status(500, "the disk is full")
        entry = await comfy.ended(await comfy.prompt(picture(1, "x")))
        message = entry["status"]["messages"][-1][1]["exception_message"]
        assert "answered POST /prompt with 500: the disk is full." in message
        assert "tried 3 times" in message
        del sick.answers["POST /prompt"]
        sick.nonsense = NONSENSE
        assert (await comfy.ended(await comfy.prompt(picture(2, "x"))))["status"]["completed"]
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("kind", ["light", *(["stock"] if COMFYUI_DIR else [])])
async def test_a_killed_comfyui_costs_an_attempt_and_its_prompt_ends_once(
    cluster: Cluster, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    workspace = make_workspace(tmp_path / "worker-w")
    if kind == "light":
        found = Installation.at(LIGHT, Path(sys.executable))
        prompt = {"2": node("TestGate", path=str(tmp_path / "gate"))}
    else:
        found, prompt = stock_installation(), gated(tmp_path / "gate")
    host = Started(found, workspace, Options(device="cpu"))
    comfy = await in_front_of(cluster, ComfyuiEngine(workspace, host), "TestGate")
    async with comfy.socket("me") as socket:
        prompt_id = await comfy.prompt(prompt, client_id="me")
        await socket.event("progress", prompt_id=prompt_id)
        assert host.pid is not None
        os.kill(host.pid, signal.SIGKILL)
        (tmp_path / "gate").touch()
        await socket.end(prompt_id)
    assert (await comfy.ended(prompt_id))["status"]["completed"]
    types = [name for name, _ in socket.events(prompt_id)]
    assert types.count("execution_success") == 1
    assert "execution_error" not in types
    assert re.search(r"was ended by signal 9 .* while executing node 2 \(TestGate\)", caplog.text)
    assert f"{prompt_id} begins (attempt 2)" in caplog.text
    assert "Traceback" not in caplog.text
