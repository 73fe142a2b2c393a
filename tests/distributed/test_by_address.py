"""Images by address on a worker, which waits for them as long as the prompt is wanted. With COMFYUI_DIR set, on
one that has the ComfyUI there too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from comfy_dist.cli.parts import make_engine
from comfy_dist.engine import Engine
from comfy_dist.settings import ComfyuiWorkerSettings
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.workspace import Workspace
from tests.distributed.conftest import Workers, working
from tests.engines.conftest import COMFYUI_DIR, stock_installation
from tests.outside.serving import Served, serving
from tests.support.patience import PATIENCE
from tests.support.talking import Prompt, node

pytestmark = pytest.mark.asyncio(loop_scope="session")

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003010100"
    "c9fe92ef0000000049454e44ae426082"
)


class Server:
    """Gives a red pixel, or at /never nothing."""

    def __init__(self) -> None:
        self.waited = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/never":
            self.waited.set()
            await asyncio.Event().wait()
        return web.Response(body=PIXEL, content_type="image/png")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server() -> AsyncIterator[tuple[Server, Served]]:
    server = Server()
    async with serving(server.answer) as served:
        yield server, served


@pytest_asyncio.fixture(
    scope="module", loop_scope="session", params=["graph", *(["stock"] if COMFYUI_DIR else [])]
)
async def worker(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    server: tuple[Server, Served],
) -> AsyncIterator[Workers]:
    options: dict[str, Any] = {"engine": "graph", "comfyui_dir": None}
    if request.param == "stock":
        found = stock_installation()
        options = {"comfyui_dir": found.folder, "comfyui_python": found.python}
        options["comfyui_arguments"] = found.arguments

    def make(workspace: Workspace, number: int) -> Engine:
        return make_engine(
            ComfyuiWorkerSettings(allow_remote_host=(server[1].place,), **options), workspace, "cpu"
        )

    broker = MemoryBroker()
    async with working(tmp_path_factory.mktemp("one"), 1, lambda: MemoryTransport(broker), make) as workers:
        yield workers


def fetched(url: str) -> Prompt:
    return {"1": node("LoadImageUrl", url=url), "2": node("PreviewImage", images=["1", 0])}


async def test_a_picture_comes(worker: Workers, server: tuple[Server, Served]) -> None:
    ran = await worker.done(fetched(server[1].url("/red.png")))
    assert len(ran.outputs["2"]["images"]) == 1


async def test_what_nobody_allowed_fails_the_node_with_the_flag_that_would(worker: Workers) -> None:
    ran = await worker.run(fetched("http://127.0.0.1:9/secret.png"))
    assert (ran.status, ran.error["node_type"]) == ("error", "LoadImageUrl")
    assert "--allow-remote-host 127.0.0.1:9" in ran.error["exception_message"]


async def test_an_interrupt_ends_the_waiting(worker: Workers, server: tuple[Server, Served]) -> None:
    prompt_id = await worker.post(fetched(server[1].url("/never")))
    async with asyncio.timeout(PATIENCE):
        await server[0].waited.wait()
    await worker.frontend.running(prompt_id)
    await worker.frontend.post("/interrupt", {"prompt_id": prompt_id})
    ran = await worker.frontend.ended(prompt_id)
    # Its own deadline would be an execution_error.
    assert [name for name, _ in ran["status"]["messages"]][-1] == "execution_interrupted"
    server[0].waited.clear()
