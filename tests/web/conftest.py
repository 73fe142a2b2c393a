"""A frontend's web application without a queue behind it, and a whole `comfyui`; both on a free loopback port."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from PIL import Image

from comfy_dist.frontend.app import make_app
from comfy_dist.frontend.context import Context
from comfy_dist.frontend.distributed_config import DistributedConfig
from comfy_dist.registry import Registry
from comfy_dist.settings import ComfyuiSettings
from comfy_dist.workspace import Workspace
from tests.support import processes
from tests.support.patience import PATIENCE
from tests.support.processes import REPOSITORY

Start = Callable[..., Awaitable["Served"]]


@dataclass
class Served:
    """A listening application and a client of it."""

    port: int
    workspace: Workspace
    registry: Registry
    session: aiohttp.ClientSession
    address: str = field(init=False)

    def __post_init__(self) -> None:
        self.address = f"http://127.0.0.1:{self.port}"

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        async with self.session.request(method, self.address + path, **options) as response:
            return Answer(response.status, dict(response.headers), await response.read())

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.ask("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Answer:
        return await self.ask("POST", path, **options)

    async def raw(self, target: str, *headers: str) -> int:
        """The status of a GET for exactly this target: clients tidy up dot segments and hosts."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"GET {target} HTTP/1.1", *(headers or ("Host: localhost",)), "Connection: close", "", ""]
        writer.write("\r\n".join(lines).encode())
        status = int((await reader.readline()).split()[1])
        writer.close()
        return status

    async def upload(
        self, content: bytes, name: str | None, route: str = "/upload/image", **fields: str
    ) -> Answer:
        form = aiohttp.FormData()
        form.add_field("image", content, filename=name, content_type="application/octet-stream")
        for key, value in fields.items():
            form.add_field(key, value)
        return await self.post(route, data=form)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def sentence(self) -> str:
        """What a refusal says."""
        message: str = self.json()["error"]["message"]
        assert message.endswith("."), message
        return message


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    runners: list[web.AppRunner] = []
    async with aiohttp.ClientSession() as session:

        async def go(**settings: Any) -> Served:
            workspace = Workspace.at(tmp_path / "workspace")
            workspace.create()
            registry = Registry()
            nothing = cast(Any, None)  # these routes touch none of it
            context = Context(
                id="frontend",
                settings=ComfyuiSettings(cwd=workspace.root, **settings),
                workspace=workspace,
                config=DistributedConfig(workspace.user),
                state=tmp_path,
                transport=nothing,
                ledger=nothing,
                registry=registry,
                hub=nothing,
                affinity=nothing,
                revoked=asyncio.Queue(),
                tasks=nothing,
            )
            app = make_app(context, [])
            app.router.add_get("/broken", _broken)
            runner = web.AppRunner(app)
            await runner.setup()
            runners.append(runner)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            return Served(runner.addresses[0][1], workspace, registry, session)

        yield go
    for runner in runners:
        await runner.cleanup()


async def _broken(request: web.Request) -> web.Response:
    raise RuntimeError("a bug")


@pytest.fixture
async def served(start: Start) -> Served:
    return await start()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def picture(format: str = "PNG", size: tuple[int, int] = (8, 4), color: Any = (255, 0, 0, 128)) -> bytes:
    buffer = io.BytesIO()
    mode = "RGBA" if format in ("PNG", "WEBP") else "RGB"
    Image.new(mode, size, color if mode == "RGBA" else color[:3]).save(buffer, format)
    return buffer.getvalue()


def fetch(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=PATIENCE) as answer:
        text = answer.read()
    return json.loads(text) if text else None


@pytest.fixture(scope="session")
def all_in_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running `comfyui` whose worker knows the testing nodes."""
    root = tmp_path_factory.mktemp("workspace")
    shutil.copytree(REPOSITORY / "tests/packs/testing_nodes", root / "custom_nodes/testing_nodes")
    with processes.all_in_one(root) as address:
        yield address
